package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// CertificateSigners asks for the verbs that protect signers: approve for
// approving or denying a request, sign for issuing its certificate. It keeps
// client certificates of system:masters from being asked for. It stands for
// upstream's CertificateApproval, CertificateSigning and
// CertificateSubjectRestriction.
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
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return nil // validation says it better
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return refuse(a, fmt.Errorf("failed to parse CSR: %w", err))
	}
	if slices.Contains(req.Subject.Organization, auth.GroupMasters) {
		return refuse(a, fmt.Errorf("use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName))
	}
	return nil
}
