package certificates

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/controller"
)

type csr = certificatesv1.CertificateSigningRequest

func input() []controller.Input {
	return []controller.Input{{Resource: client.Resource{Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}, Keys: controller.Self}}
}

const account = "certificate-controller"

// askAgain is when a request that was not allowed is looked at again: a
// binding may be on its way.
const askAgain = 30 * time.Second

// NewApprover returns the controller that approves node agents' client
// certificates. authz is the authorizer of requests.
func NewApprover(authz auth.Authorizer) controller.Controller {
	return controller.Controller{
		Name: "csrapproving", Account: account, Inputs: input(), Writes: []string{"certificatesigningrequests.certificates.k8s.io/approval"},
		Reconcile: func(ctx context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			c, ok := controller.Get[*csr](s, "", key.Name)
			if !ok || answered(c) {
				return controller.Plan{}, nil
			}
			return approve(ctx, authz, c, s.Now())
		},
	}
}

func has(c *csr, t certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(c.Status.Conditions, func(x certificatesv1.CertificateSigningRequestCondition) bool {
		return x.Type == t && x.Status == corev1.ConditionTrue
	})
}

func answered(c *csr) bool {
	return len(c.Status.Certificate) > 0 || has(c, certificatesv1.CertificateApproved) || has(c, certificatesv1.CertificateDenied)
}

// approve asks whether the requester may have a client certificate of a node
// without anybody looking.
func approve(ctx context.Context, authz auth.Authorizer, c *csr, now time.Time) (p controller.Plan, err error) {
	if c.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return p, nil
	}
	req, err := pki.ParseCSR(c.Spec.Request)
	if err != nil {
		return p, fmt.Errorf("cannot judge certificate request %q: %w", c.Name, err)
	}
	if kubeletClient(req, c.Spec.Usages) != nil {
		return p, nil
	}
	u := &auth.User{Name: c.Spec.Username, UID: c.Spec.UID, Groups: c.Spec.Groups, Extra: map[string][]string{}}
	for k, v := range c.Spec.Extra {
		u.Extra[k] = v
	}
	for _, way := range []struct {
		sub, message string
		open         bool
	}{
		{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.", c.Spec.Username == req.Subject.CommonName},
		{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.", true},
	} {
		if !way.open {
			continue
		}
		d, _, err := authz.Authorize(ctx, auth.Attributes{
			User: u, Verb: "create", Group: certificatesv1.GroupName, Version: "*", Resource: "certificatesigningrequests", Subresource: way.sub,
		})
		if err != nil && d != auth.Allow {
			return p, fmt.Errorf("cannot judge certificate request %q: %w", c.Name, err)
		}
		if d == auth.Allow {
			p.Add(controller.Sub(with(c, certificatesv1.CertificateApproved, "AutoApproved", way.message, now), "approval"))
			return p, nil
		}
	}
	p.Again(askAgain)
	return p, nil
}

// with is a copy of c with one more condition.
func with(c *csr, t certificatesv1.RequestConditionType, reason, message string, now time.Time) *csr {
	next := c.DeepCopy()
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	})
	return next
}

// kubeletClient says why req is not for a node agent's client certificate.
func kubeletClient(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{auth.GroupNodes}):
		return errors.New("subject organization is not system:nodes")
	case len(req.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(req.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed") // upstream's words
	case len(req.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	case !strings.HasPrefix(req.Subject.CommonName, "system:node:"):
		return errors.New("subject common name does not begin with system:node:")
	}
	return exactly(usages, certificatesv1.UsageClientAuth)
}

// kubeletServing says why req is not for a node agent's serving certificate.
func kubeletServing(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{auth.GroupNodes}):
		return errors.New("subject organization is not system:nodes")
	case len(req.DNSNames) == 0 && len(req.IPAddresses) == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case len(req.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed") // upstream's words
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	if err := exactly(usages, certificatesv1.UsageServerAuth); err != nil {
		return err
	}
	if !strings.HasPrefix(req.Subject.CommonName, "system:node:") {
		return errors.New("subject common name does not begin with system:node:")
	}
	return nil
}

// exactly wants the usages of a TLS certificate: key encipherment only where
// the key is for RSA.
func exactly(usages []certificatesv1.KeyUsage, side certificatesv1.KeyUsage) error {
	got := slices.Compact(slices.Sorted(slices.Values(usages)))
	all := slices.Sorted(slices.Values([]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, side}))
	without := slices.DeleteFunc(slices.Clone(all), func(u certificatesv1.KeyUsage) bool { return u == certificatesv1.UsageKeyEncipherment })
	if !slices.Equal(got, all) && !slices.Equal(got, without) {
		return fmt.Errorf("usages did not match %v", all)
	}
	return nil
}
