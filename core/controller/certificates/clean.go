package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// How long requests are kept, as upstream has it.
const (
	keepAnswered = time.Hour
	keepPending  = 24 * time.Hour
)

// NewCleaner returns the controller that deletes old requests.
func NewCleaner() controller.Controller {
	return controller.Controller{
		Name: "csrcleaner", Account: account, Inputs: input(), Writes: []string{"certificatesigningrequests.certificates.k8s.io deletion"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			c, ok := controller.Get[*csr](s, "", key.Name)
			if !ok {
				return p, nil
			}
			end, ok := endOf(c)
			switch {
			case !ok:
			case s.Now().After(end):
				p.Add(controller.Delete(c))
			default:
				p.Again(end.Sub(s.Now()) + time.Second)
			}
			return p, nil
		},
	}
}

// endOf is when a request has been kept long enough; false means never.
func endOf(c *csr) (end time.Time, ok bool) {
	until := func(t time.Time) {
		if !ok || t.Before(end) {
			end, ok = t, true
		}
	}
	if len(c.Status.Conditions) == 0 && !c.CreationTimestamp.IsZero() {
		until(c.CreationTimestamp.Add(keepPending))
	}
	issued := len(c.Status.Certificate) > 0
	for _, x := range c.Status.Conditions {
		if x.Type == certificatesv1.CertificateApproved && issued {
			if t, ok := expiry(c.Status.Certificate); ok {
				until(t)
			}
		}
		switch at := x.LastUpdateTime; {
		case at.IsZero():
		case x.Type == certificatesv1.CertificateDenied, x.Type == certificatesv1.CertificateFailed, x.Type == certificatesv1.CertificateApproved && issued:
			until(at.Add(keepAnswered))
		case x.Type == certificatesv1.CertificateApproved:
			until(at.Add(keepPending))
		}
	}
	return end, ok
}

func expiry(text []byte) (time.Time, bool) {
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}, false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, false
	}
	return cert.NotAfter, true
}
