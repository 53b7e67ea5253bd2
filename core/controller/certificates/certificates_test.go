package certificates_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/certificates"
	"binnacle.io/core/controller/controllertest"
)

type (
	csr    = certificatesv1.CertificateSigningRequest
	usages = []certificatesv1.KeyUsage
)

const (
	kubelet   = certificatesv1.KubeAPIServerClientKubeletSignerName
	serving   = certificatesv1.KubeletServingSignerName
	apiClient = certificatesv1.KubeAPIServerClientSignerName
)

func clientUsages() usages {
	return usages{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
}

func request(t testing.TB, f func(*x509.CertificateRequest)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}}
	if f != nil {
		f(r)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func ask(signer string, use usages, body []byte, conditions ...certificatesv1.RequestConditionType) *csr {
	c := &csr{ObjectMeta: metav1.ObjectMeta{Name: "r", CreationTimestamp: metav1.NewTime(controllertest.Epoch)},
		Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Usages: use, Request: body, Username: "system:bootstrap:abcdef", Groups: []string{"system:bootstrappers"}}}
	for _, t := range conditions {
		c.Status.Conditions = append(c.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: t, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(controllertest.Epoch)})
	}
	return c
}

func reconcile(t *testing.T, ctl controller.Controller, c *csr, now time.Time) controller.Plan {
	t.Helper()
	plan, err := ctl.Reconcile(t.Context(), controllertest.NewState(t, now, c), client.Key{Name: c.Name})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// rbac allows a user or group to create one subresource of requests.
type rbac struct{ who, sub string }

func (z rbac) allows(a auth.Attributes) bool {
	return a.Verb == "create" && a.Group == "certificates.k8s.io" && a.Resource == "certificatesigningrequests" && a.Subresource == z.sub &&
		(a.User.Name == z.who || a.User.InGroup(z.who))
}

type authorizer struct{ rbac }

func (z authorizer) Authorize(_ context.Context, a auth.Attributes) (auth.Decision, string, error) {
	if z.allows(a) {
		return auth.Allow, "", nil
	}
	return auth.NoOpinion, "", nil
}

func TestApprove(t *testing.T) {
	bootstrapper, node := rbac{"system:bootstrappers", "nodeclient"}, rbac{"system:node:n1", "selfnodeclient"}
	as := func(c *csr, user string) *csr { c.Spec.Username, c.Spec.Groups = user, nil; return c }
	const asks = "again after 30s"
	for _, tc := range []struct {
		name string
		z    rbac
		c    *csr
		want string // the condition's message, or what the plan says
	}{
		{"bootstrapper", bootstrapper, ask(kubelet, clientUsages(), request(t, nil)), "Auto approving kubelet client certificate after SubjectAccessReview."},
		{"renewal", node, as(ask(kubelet, clientUsages(), request(t, nil)), "system:node:n1"), "Auto approving self kubelet client certificate after SubjectAccessReview."},
		{"renewal for another node", rbac{"system:node:n2", "selfnodeclient"}, as(ask(kubelet, clientUsages(), request(t, nil)), "system:node:n2"), asks},
		{"nobody", rbac{}, ask(kubelet, clientUsages(), request(t, nil)), asks},
		{"serving", bootstrapper, ask(serving, clientUsages(), request(t, nil)), ""},
		{"any client", bootstrapper, ask(apiClient, clientUsages(), request(t, nil)), ""},
		{"not a node's name", bootstrapper, ask(kubelet, clientUsages(), request(t, func(r *x509.CertificateRequest) { r.Subject.CommonName = "admin" })), ""},
		{"more groups", bootstrapper, ask(kubelet, clientUsages(), request(t, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:nodes", "system:masters"} })), ""},
		{"names", bootstrapper, ask(kubelet, clientUsages(), request(t, func(r *x509.CertificateRequest) { r.DNSNames = []string{"n1"} })), ""},
		{"server usage", bootstrapper, ask(kubelet, append(clientUsages(), certificatesv1.UsageServerAuth), request(t, nil)), ""},
		{"denied", bootstrapper, ask(kubelet, clientUsages(), request(t, nil), certificatesv1.CertificateDenied), ""},
		{"approved", bootstrapper, ask(kubelet, clientUsages(), request(t, nil), certificatesv1.CertificateApproved), ""},
	} {
		plan := reconcile(t, certificates.NewApprover(authorizer{tc.z}), tc.c, controllertest.Epoch)
		got := strings.TrimSpace(plan.String())
		if len(plan.Actions) == 1 && plan.Actions[0].Sub == "approval" {
			conditions := plan.Actions[0].Object.(*csr).Status.Conditions
			last := conditions[len(conditions)-1]
			got = last.Message
			if last.Type != certificatesv1.CertificateApproved || last.Reason != "AutoApproved" || last.LastUpdateTime.IsZero() {
				t.Errorf("%s: %+v", tc.name, last)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}

func TestSign(t *testing.T) {
	p, err := pki.Ensure(pki.Config{Dir: t.TempDir(), NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ctl := certificates.NewSigner(p.CA, 0)
	serverUsages := usages{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth}
	withIP := func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }
	approved := certificatesv1.CertificateApproved
	for _, tc := range []struct {
		name   string
		c      *csr
		life   time.Duration // of the certificate, 0 for none
		failed string
	}{
		{"kubelet client", ask(kubelet, clientUsages(), request(t, nil), approved), 365*24*time.Hour - 5*time.Minute, ""},
		{"kubelet serving", ask(serving, serverUsages, request(t, withIP), approved), 365*24*time.Hour - 5*time.Minute, ""},
		{"any client", ask(apiClient, clientUsages(), request(t, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"g"} }), approved), 365*24*time.Hour - 5*time.Minute, ""},
		{"legacy", ask(certificates.LegacyUnknown, usages{certificatesv1.UsageCodeSigning}, request(t, nil), approved), 365*24*time.Hour - 5*time.Minute, ""},
		{"short", lasting(ask(kubelet, clientUsages(), request(t, nil), approved), 3600), time.Hour, ""},
		{"too short", lasting(ask(kubelet, clientUsages(), request(t, nil), approved), 1), 10 * time.Minute, ""},
		{"too long", lasting(ask(kubelet, clientUsages(), request(t, nil), approved), 10*365*24*3600), 365*24*time.Hour - 5*time.Minute, ""},
		{"not approved", ask(kubelet, clientUsages(), request(t, nil)), 0, ""},
		{"denied as well", ask(kubelet, clientUsages(), request(t, nil), approved, certificatesv1.CertificateDenied), 0, ""},
		{"failed before", ask(kubelet, clientUsages(), request(t, nil), approved, certificatesv1.CertificateFailed), 0, ""},
		{"somebody else's signer", ask("example.com/x", clientUsages(), request(t, nil), approved), 0, ""},
		{"client with server usage", ask(apiClient, serverUsages, request(t, nil), approved), 0, "invalid usage for client certificate: server auth"},
		{"client without usage", ask(apiClient, usages{certificatesv1.UsageDigitalSignature}, request(t, nil), approved), 0, "missing required usage for client certificate: client auth"},
		{"kubelet with names", ask(kubelet, clientUsages(), request(t, withIP), approved), 0, "IP subjectAltNames are not allowed"},
		{"kubelet of another group", ask(kubelet, clientUsages(), request(t, func(r *x509.CertificateRequest) { r.Subject.Organization = nil }), approved), 0, "subject organization is not system:nodes"},
		{"kubelet without usage", ask(kubelet, usages{certificatesv1.UsageDigitalSignature}, request(t, nil), approved), 0, "usages did not match [client auth digital signature key encipherment]"},
		{"serving without names", ask(serving, serverUsages, request(t, nil), approved), 0, "DNS or IP subjectAltName is required"},
		{"serving with URI", ask(serving, serverUsages, request(t, func(r *x509.CertificateRequest) { withIP(r); r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }), approved), 0, "URI subjectAltNames are not allowed"},
	} {
		plan := reconcile(t, ctl, tc.c, now)
		if tc.life == 0 && tc.failed == "" {
			if len(plan.Actions) > 0 {
				t.Errorf("%s: %s", tc.name, plan)
			}
			continue
		}
		if len(plan.Actions) != 1 || plan.Actions[0].Sub != "status" {
			t.Errorf("%s: %s", tc.name, plan)
			continue
		}
		next := plan.Actions[0].Object.(*csr)
		if tc.failed != "" {
			i := slices.IndexFunc(next.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
				return c.Type == certificatesv1.CertificateFailed
			})
			if i < 0 || next.Status.Conditions[i].Message != tc.failed || next.Status.Conditions[i].Reason != "SignerValidationFailure" {
				t.Errorf("%s: %+v", tc.name, next.Status)
			}
			continue
		}
		block, _ := pem.Decode(next.Status.Certificate)
		if block == nil {
			t.Errorf("%s: no certificate", tc.name)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		opts := x509.VerifyOptions{Roots: p.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		if _, err := cert.Verify(opts); err != nil || cert.IsCA {
			t.Errorf("%s: %v, CA %t", tc.name, err, cert.IsCA)
		}
		if d := cert.NotAfter.Sub(now) - tc.life; d < -2*time.Second || d > 2*time.Second {
			t.Errorf("%s: good for %v", tc.name, cert.NotAfter.Sub(now))
		}
	}
}

func lasting(c *csr, seconds int32) *csr {
	c.Spec.ExpirationSeconds = ptr.To(seconds)
	return c
}

func TestClean(t *testing.T) {
	ctl := certificates.NewCleaner()
	issued := func(c *csr) *csr { c.Status.Certificate = []byte("not to be read"); return c }
	const approved, denied, failed = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed
	for _, tc := range []struct {
		name string
		c    *csr
		ends time.Duration
	}{
		{"pending", ask(kubelet, nil, nil), 24 * time.Hour},
		{"approved", ask(kubelet, nil, nil, approved), 24 * time.Hour},
		{"denied", ask(kubelet, nil, nil, denied), time.Hour},
		{"failed", ask(kubelet, nil, nil, approved, failed), time.Hour},
		{"issued", issued(ask(kubelet, nil, nil, approved)), time.Hour},
	} {
		if plan := reconcile(t, ctl, tc.c, controllertest.Epoch.Add(tc.ends-time.Minute)); len(plan.Actions) > 0 || plan.After != time.Minute+time.Second {
			t.Errorf("%s, before its end: %s", tc.name, plan)
		}
		if plan := reconcile(t, ctl, tc.c, controllertest.Epoch.Add(tc.ends+time.Second)); len(plan.Actions) != 1 || plan.Actions[0].Op != controller.OpDelete {
			t.Errorf("%s, after its end: %s", tc.name, plan)
		}
	}
}
