package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/telemetry"
)

// TestAccess starts with the sections that users write, good and bad.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p, err := pki.Ensure(pki.Config{Dir: filepath.Join(dir, "pki"), NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	tokens := file("tokens.csv", "t1,alice,u1\n")
	policies := file("abac.jsonl", `{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"alice","nonResourcePath":"*"}}`)
	for _, tc := range []struct{ name, yaml, err string }{
		{"nothing", "", ""},
		{"all", "authentication:\n  tokenFile: " + tokens + "\n  disableAnonymous: true\n  clientCAFile: " + p.CA.CertFile +
			"\n  oidc: [{issuer: https://id.example.com, audiences: [k], usernameClaim: email, groupsClaim: groups, requiredClaims: {hd: example.com}, caFile: " + p.CA.CertFile + "}]" +
			"\n  requestHeader: {clientCAFile: " + p.CA.CertFile + ", allowedNames: [proxy]}\nauthorization:\n  modes: [ABAC, Node, RBAC]\n  abacFile: " + policies + "\n", ""},
		{"no token file", "authentication: {tokenFile: /none}", "cannot read token file: open /none: no such file or directory"},
		{"bad token file", "authentication: {tokenFile: " + file("bad.csv", "a,b") + "}", "line 1 has 2 columns"},
		{"issuer twice", "authentication: {oidc: [{issuer: https://x, audiences: [a]}, {issuer: https://x, audiences: [b]}]}", `issuer "https://x" is there twice`},
		{"plain issuer", "authentication: {oidc: [{issuer: http://x, audiences: [a]}]}", `issuer "http://x" is not an https URL`},
		{"unknown setting", "authentication: {oidc: [{issuer: https://x, claimMappings: {}}]}", `unknown field "claimMappings"`},
		{"no webhook", "authentication: {webhook: {kubeconfig: /none}}", "cannot authenticate by webhook: cannot use kubeconfig /none"},
		{"no front proxy CA", "authentication: {requestHeader: {clientCAFile: /none}}", "cannot read certificates: open /none"},
		{"every client a proxy", "authentication: {requestHeader: {clientCAFile: " + p.CA.CertFile + "}}", "its authority also signs clients' certificates, and allowedNames is empty"},
		{"unknown mode", "authorization: {modes: [Node, RBAC, AlwaysAllow]}", `there is no mode "AlwaysAllow"`},
		{"without RBAC", "authorization: {modes: [Node]}", "the cluster's own parts need Node and RBAC among them"},
		{"mode twice", "authorization: {modes: [Node, RBAC, Node]}", "Node is there twice"},
		{"ABAC without file", "authorization: {modes: [Node, RBAC, ABAC]}", "ABAC needs abacFile"},
		{"file without ABAC", "authorization: {modes: [Node, RBAC], abacFile: x}", "ABAC is not among the modes"},
		{"bad policies", "authorization: {abacFile: " + file("bad.jsonl", "{}") + "}", "line 1: want a Policy of abac.authorization.kubernetes.io/v1beta1"},
		{"bad failure policy", "authorization: {webhook: {kubeconfig: /none, failurePolicy: Allow}}", `failurePolicy "Allow" is neither NoOpinion nor Deny`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := loadConfig(file("binnacle.yaml", "address: 127.0.0.1\n"+tc.yaml))
			if err == nil {
				err = cfg.complete()
			}
			if err == nil {
				_, err = newAccess(cfg, p, telemetry.Discard())
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v", err)
			}
		})
	}
}
