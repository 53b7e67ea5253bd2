package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// CertificateSigners asks for the verbs that protect signers: approve for
// approving or denying a request, sign for issuing its certificate. It keeps
// client certificates of system:masters from being asked for. It stands for
// upstream's CertificateApproval, CertificateSigning and
// CertificateSubjectRestriction. It also records in a request who makes it.
type CertificateSigners struct{ authz auth.Authorizer }

// NewCertificateSigners returns the plugin. authz is the authorizer of requests.
func NewCertificateSigners(authz auth.Authorizer) *CertificateSigners {
	return &CertificateSigners{authz}
}

func (*CertificateSigners) Name() string { return "CertificateSigners" }

func (*CertificateSigners) Handles(op Operation, r client.Resource, sub string) bool {
	if r != csrResource {
		return false
	}
	return op == Create && sub == "" || op == Update && (sub == "approval" || sub == "status")
}

// Admit writes into a request who makes it, whatever the body says, and when its
// conditions came about.
func (p *CertificateSigners) Admit(_ context.Context, a *Attributes) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil
	}
	if a.Op == Create {
		s := &csr.Spec
		s.Username, s.UID, s.Groups, s.Extra = "", "", nil, nil
		if u := a.User; u != nil {
			s.Username, s.UID, s.Groups = u.Name, u.UID, slices.Clone(u.Groups)
			for k, v := range u.Extra {
				if s.Extra == nil {
					s.Extra = map[string]certificatesv1.ExtraValue{}
				}
				s.Extra[k] = slices.Clone(v)
			}
		}
		return nil
	}
	if old, ok := a.Old.(*certificatesv1.CertificateSigningRequest); ok {
		if a.Subresource == "status" {
			keepDecision(csr, old)
		}
		dateConditions(csr, old, metav1.Now())
	}
	return nil
}

// keepDecision keeps who signs from changing what who approves has written.
func keepDecision(csr, old *certificatesv1.CertificateSigningRequest) {
	for i, c := range csr.Status.Conditions {
		if c.Type != certificatesv1.CertificateApproved && c.Type != certificatesv1.CertificateDenied {
			continue
		}
		for _, o := range old.Status.Conditions {
			if o.Type == c.Type {
				csr.Status.Conditions[i] = o
			}
		}
	}
}

// dateConditions fills in what times are missing, as upstream does.
func dateConditions(csr, old *certificatesv1.CertificateSigningRequest, now metav1.Time) {
	for i := range csr.Status.Conditions {
		c := &csr.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		before := slices.IndexFunc(old.Status.Conditions, func(o certificatesv1.CertificateSigningRequestCondition) bool {
			return o.Type == c.Type && o.Status == c.Status
		})
		if before >= 0 && !old.Status.Conditions[before].LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.Status.Conditions[before].LastTransitionTime
		}
	}
}

func (p *CertificateSigners) Validate(ctx context.Context, a *Attributes) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil
	}
	old, _ := a.Old.(*certificatesv1.CertificateSigningRequest)
	switch {
	case a.Op == Create:
		return subjectAllowed(a, csr)
	case old == nil:
		return nil
	case a.Subresource == "approval":
		return p.ask(ctx, a, "approve", old.Spec.SignerName)
	case string(csr.Status.Certificate) != string(old.Status.Certificate) || failed(csr) != failed(old):
		return p.ask(ctx, a, "sign", old.Spec.SignerName)
	}
	return nil
}

func failed(csr *certificatesv1.CertificateSigningRequest) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == certificatesv1.CertificateFailed
	})
}

// ask checks the verb on the signer itself, then on all signers of its domain.
func (p *CertificateSigners) ask(ctx context.Context, a *Attributes, verb, signer string) error {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		d, _, err := p.authz.Authorize(ctx, auth.Attributes{
			User: a.User, Verb: verb, Group: certificatesv1.GroupName, Version: "v1", Resource: "signers", Name: name,
		})
		if err == nil && d == auth.Allow {
			return nil
		}
	}
	return refuse(a, fmt.Errorf("user not permitted to %s requests with signerName %q", verb, signer))
}

func subjectAllowed(a *Attributes, csr *certificatesv1.CertificateSigningRequest) error {
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	req, err := parseRequest(csr.Spec.Request)
	if err != nil {
		return refuse(a, fmt.Errorf("failed to parse CSR: %w", err))
	}
	if slices.Contains(req.Subject.Organization, auth.GroupMasters) {
		return refuse(a, fmt.Errorf("use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName))
	}
	return nil
}

// parseRequest reads a certificate request in PEM.
func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}
