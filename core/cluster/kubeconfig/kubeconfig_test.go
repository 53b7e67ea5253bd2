package kubeconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"binnacle.io/core/cluster/pki"
)

func TestMergeKeepsOthers(t *testing.T) {
	p, err := pki.Ensure(pki.Config{Dir: t.TempDir(), NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sub", "config")
	if err := Merge(path, New("other", "https://192.0.2.1:6443", p.CA, p.Admin)); err != nil {
		t.Fatal(err)
	}
	if err := Merge(path, New("binnacle", "https://127.0.0.1:6443", p.CA, p.Admin)); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CurrentContext != "binnacle" || cfg.Contexts["other"] == nil || cfg.Clusters["binnacle"].Server != "https://127.0.0.1:6443" {
		t.Errorf("merged: %+v", cfg)
	}
	rest, err := clientcmd.NewDefaultClientConfig(*cfg, nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	if string(rest.CertData) != string(p.Admin.CertPEM) || string(rest.CAData) != string(p.CA.CertPEM) {
		t.Error("the client's certificates are not those of the PKI")
	}
}

func TestMergeRefusesWhatItDoesNotUnderstand(t *testing.T) {
	p, err := pki.Ensure(pki.Config{Dir: t.TempDir(), NodeName: "n"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("clusters: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Merge(path, New("binnacle", "https://127.0.0.1:6443", p.CA, p.Admin))
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "clusters: 3\n" {
		t.Errorf("file became %q", text)
	}
}
