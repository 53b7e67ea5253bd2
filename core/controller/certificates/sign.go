package certificates

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/controller"
)

// Issuer signs certificates. *pki.Pair is one.
type Issuer interface {
	Issue(r pki.Request) ([]byte, error)
}

// LegacyUnknown is the signer of certificates that nobody vouches for.
const LegacyUnknown = "kubernetes.io/legacy-unknown"

const (
	defaultLife  = 365 * 24 * time.Hour
	shortestLife = 10 * time.Minute
)

// NewSigner returns the controller that signs what has been approved. life is
// the longest a certificate may be good; 0 means a year.
func NewSigner(ca Issuer, life time.Duration) controller.Controller {
	if life == 0 {
		life = defaultLife
	}
	return controller.Controller{
		Name: "csrsigning", Account: account, Inputs: input(), Writes: []string{"certificatesigningrequests.certificates.k8s.io/status"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			c, ok := controller.Get[*csr](s, "", key.Name)
			if !ok || !has(c, certificatesv1.CertificateApproved) || has(c, certificatesv1.CertificateDenied) || has(c, certificatesv1.CertificateFailed) ||
				len(c.Status.Certificate) > 0 {
				return p, nil
			}
			return sign(ca, c, life, s.Now())
		},
	}
}

func sign(ca Issuer, c *csr, life time.Duration, now time.Time) (p controller.Plan, err error) {
	check, ours := rules()[c.Spec.SignerName]
	if !ours {
		return p, nil
	}
	req, err := pki.ParseCSR(c.Spec.Request)
	if err == nil {
		err = check(req, c.Spec.Usages)
	}
	if err != nil {
		p.Add(controller.Status(with(c, certificatesv1.CertificateFailed, "SignerValidationFailure", err.Error(), now)))
		return p, nil
	}
	if s := c.Spec.ExpirationSeconds; s != nil {
		life = max(min(time.Duration(*s)*time.Second, life), shortestLife)
	}
	next := c.DeepCopy()
	if next.Status.Certificate, err = ca.Issue(pki.Request{CSR: c.Spec.Request, Usages: c.Spec.Usages, Life: life, Now: now}); err != nil {
		return p, fmt.Errorf("cannot sign certificate request %q: %w", c.Name, err)
	}
	p.Add(controller.Status(next))
	return p, nil
}

type rule func(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error

// rules are those of the signers that are ours.
func rules() map[string]rule {
	return map[string]rule{
		certificatesv1.KubeletServingSignerName:             kubeletServing,
		certificatesv1.KubeAPIServerClientKubeletSignerName: kubeletClient,
		certificatesv1.KubeAPIServerClientSignerName:        anyClient,
		LegacyUnknown: func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error { return nil },
	}
}

func anyClient(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	client := false
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			client = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !client {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}
