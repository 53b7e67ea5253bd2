package admission_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// permits allows verbs on signers, "approve example.com/*".
type permits []string

func (p permits) Authorize(_ context.Context, a auth.Attributes) (auth.Decision, string, error) {
	if slices.Contains(p, a.Verb+" "+a.Name) {
		return auth.Allow, "", nil
	}
	return auth.NoOpinion, "", nil
}

func TestCertificateSigners(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := func(signer, group string) *certificatesv1.CertificateSigningRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: []string{group}}}, key)
		if err != nil {
			t.Fatal(err)
		}
		csr := &certificatesv1.CertificateSigningRequest{ObjectMeta: named("", "r")}
		csr.Spec.SignerName = signer
		csr.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		return csr
	}
	signed := func(csr *certificatesv1.CertificateSigningRequest) *certificatesv1.CertificateSigningRequest {
		c := csr.DeepCopy()
		c.Status.Certificate = []byte("cert")
		return c
	}
	mine := request("example.com/mine", "g")
	for _, tc := range []struct {
		name, sub string
		may       permits
		now, old  *certificatesv1.CertificateSigningRequest
		want      string
	}{
		{"ask", "", nil, request("kubernetes.io/kube-apiserver-client", "g"), nil, ""},
		{"ask for everything", "", nil, request("kubernetes.io/kube-apiserver-client", "system:masters"), nil,
			"use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"},
		{"approve", "approval", permits{"approve example.com/mine"}, mine, mine, ""},
		{"approve all of a domain", "approval", permits{"approve example.com/*"}, mine, mine, ""},
		{"approve with the wrong verb", "approval", permits{"sign example.com/mine"}, mine, mine, `user not permitted to approve requests with signerName "example.com/mine"`},
		{"sign", "status", permits{"sign example.com/mine"}, signed(mine), mine, ""},
		{"sign without right", "status", permits{"sign example.com/other"}, signed(mine), mine, `user not permitted to sign requests with signerName "example.com/mine"`},
		{"status without a certificate", "status", nil, mine, mine, ""},
	} {
		a := &admission.Attributes{Op: admission.Create, Resource: client.Resource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"},
			Subresource: tc.sub, Key: client.KeyOf(tc.now), Object: tc.now, User: &auth.User{Name: "alice"}}
		if tc.old != nil {
			a.Op, a.Old = admission.Update, tc.old
		}
		err := admit(t, admission.NewCertificateSigners(tc.may), a)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		refused(t, tc.name, err, 403, tc.want)
	}
}

func TestVolumeResize(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	yes := true
	create(t, c, &storagev1.StorageClass{ObjectMeta: named("", "grows"), Provisioner: "example.com/p", AllowVolumeExpansion: &yes})
	create(t, c, &storagev1.StorageClass{ObjectMeta: named("", "fixed"), Provisioner: "example.com/p"})
	claim := func(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		o := &corev1.PersistentVolumeClaim{ObjectMeta: named("default", "c")}
		o.Spec.StorageClassName, o.Spec.Resources.Requests, o.Status.Phase = &class, list("storage="+size), phase
		return o
	}
	p := admission.NewPersistentVolumeClaimResize(c)
	for _, tc := range []struct{ class, from, to, want string }{
		{"grows", "1Gi", "2Gi", ""}, {"fixed", "2Gi", "2Gi", ""}, {"fixed", "1Gi", "2Gi", "must support resize"}, {"none", "1Gi", "2Gi", "must support resize"},
	} {
		err := admit(t, p, attributes(t, c, claim(tc.class, tc.to, corev1.ClaimBound), claim(tc.class, tc.from, corev1.ClaimBound)))
		if tc.want == "" && err != nil {
			t.Errorf("%+v: %v", tc, err)
		} else if tc.want != "" {
			refused(t, tc.class, err, 403, tc.want)
		}
	}
	err := admit(t, p, attributes(t, c, claim("grows", "2Gi", corev1.ClaimPending), claim("grows", "1Gi", corev1.ClaimPending)))
	refused(t, "pending", err, 403, "only bound persistent volume claims can be expanded")
}

func TestBuiltin(t *testing.T) {
	names := func(cfg admission.Config) string {
		t.Helper()
		rbac := auth.NewRBAC()
		all, err := admission.Builtin(cfg, nil, rbac, rbac, telemetry.Discard())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range all {
			_, mutates := p.(admission.Mutator)
			_, validates := p.(admission.Validator)
			if !mutates && !validates {
				t.Errorf("%s does nothing", p.Name())
			}
			names = append(names, p.Name())
		}
		return strings.Join(names, " ")
	}
	usual := names(admission.Config{})
	if !strings.HasPrefix(usual, "NamespaceLifecycle ") || !strings.HasSuffix(usual, " ResourceQuota") || !strings.Contains(usual, " StorageObjectInUseProtection ") {
		t.Errorf("plugins: %s", usual)
	}
	if got := names(admission.Config{Disable: []string{"PodSecurity", "StorageObjectInUseProtection"}}); strings.Contains(got, "PodSecurity") || strings.Contains(got, "StorageObjectInUseProtection") {
		t.Errorf("plugins: %s", got)
	}
	if _, err := admission.Builtin(admission.Config{Disable: []string{"Nonsense"}}, nil, nil, nil, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), `"Nonsense": there is no such plugin`) {
		t.Errorf("error %v", err)
	}
}
