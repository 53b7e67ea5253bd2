package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func config(t *testing.T) Config {
	return Config{Dir: t.TempDir(), NodeName: "node1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
}

func ensure(t *testing.T, cfg Config) *PKI {
	t.Helper()
	p, err := Ensure(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEnsureMakesEverythingOnce(t *testing.T) {
	cfg := config(t)
	p := ensure(t, cfg)
	if len(p.Made) != 2*11+2 {
		t.Errorf("made %d files: %v", len(p.Made), p.Made)
	}
	for _, name := range []string{"ca", "front-proxy-ca", "apiserver", "kubelet", "admin", "sa"} {
		st, err := os.Stat(filepath.Join(cfg.Dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s.key has mode %o", name, st.Mode().Perm())
		}
	}
	if again := ensure(t, cfg); len(again.Made) != 0 {
		t.Errorf("second call wrote %v", again.Made)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("temporary file %s left", e.Name())
		}
	}
}

func TestServingNamesAndChains(t *testing.T) {
	p := ensure(t, config(t))
	for _, name := range []string{"localhost", "node1", "127.0.0.1", "::1", "192.0.2.7", "10.96.0.1", "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"} {
		if err := p.APIServer.Cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	chains := func(pair *Pair, roots *x509.CertPool, use x509.ExtKeyUsage) error {
		_, err := pair.Cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}})
		return err
	}
	for _, pair := range []*Pair{p.APIServer, p.Kubelet} {
		if err := chains(pair, p.Pool(), x509.ExtKeyUsageServerAuth); err != nil {
			t.Error(err)
		}
		if chains(pair, p.Pool(), x509.ExtKeyUsageClientAuth) == nil {
			t.Errorf("%s can be used as a client certificate", pair.CertFile)
		}
	}
	for _, pair := range []*Pair{p.Admin, p.ControllerManager, p.Scheduler, p.Proxy, p.KubeletClient, p.APIServerKubeletClient} {
		if err := chains(pair, p.Pool(), x509.ExtKeyUsageClientAuth); err != nil {
			t.Error(err)
		}
	}
	if err := chains(p.FrontProxyClient, p.FrontProxyPool(), x509.ExtKeyUsageClientAuth); err != nil {
		t.Error(err)
	}
	if chains(p.FrontProxyClient, p.Pool(), x509.ExtKeyUsageClientAuth) == nil {
		t.Error("the front proxy's certificate passes as one of the cluster's")
	}
	if !slices.Equal(p.Admin.Cert.Subject.Organization, []string{"system:masters"}) {
		t.Errorf("admin is in %v", p.Admin.Cert.Subject.Organization)
	}
	if !slices.Equal(p.KubeletClient.Cert.Subject.Organization, []string{"system:nodes"}) || p.KubeletClient.Cert.Subject.CommonName != "system:node:node1" {
		t.Errorf("kubelet is %v", p.KubeletClient.Cert.Subject)
	}
}

func TestHandshake(t *testing.T) {
	p := ensure(t, config(t))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{p.APIServer.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err.Error()
			return
		}
		defer c.Close()
		if err := c.(*tls.Conn).Handshake(); err != nil {
			served <- err.Error()
			return
		}
		served <- c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", l.Addr().String(),
		&tls.Config{Certificates: []tls.Certificate{p.Admin.TLS()}, RootCAs: p.Pool(), ServerName: "kubernetes.default.svc"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-served; got != "kubernetes-admin" {
		t.Errorf("server saw %q", got)
	}
}

func TestRenewal(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := config(t)
	at := func(now time.Time, change func(*Config)) *PKI {
		t.Helper()
		c := cfg
		c.Now = func() time.Time { return now }
		if change != nil {
			change(&c)
		}
		return ensure(t, c)
	}
	first := at(start, nil)
	if made := at(start.AddDate(0, 8, 0), nil).Made; len(made) != 0 {
		t.Errorf("with a third of the life left, made %v", made)
	}
	renewed := at(start.AddDate(0, 9, 0), nil)
	if len(renewed.Made) != 9 || slices.Contains(renewed.Made, "ca.crt") || slices.Contains(renewed.Made, "apiserver.key") {
		t.Errorf("after nine months, made %v", renewed.Made)
	}
	if made := at(start.AddDate(0, 9, 0), func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("192.0.2.8")) }).Made; !slices.Equal(made, []string{"apiserver.crt", "kubelet.crt"}) {
		t.Errorf("after an address was added, made %v", made)
	}
	later := at(start.AddDate(8, 0, 0), nil)
	if !slices.Contains(later.Made, "ca.crt") || slices.Contains(later.Made, "ca.key") {
		t.Errorf("after eight years, made %v", later.Made)
	}
	_, err := later.Admin.Cert.Verify(x509.VerifyOptions{Roots: first.Pool(), CurrentTime: start.AddDate(8, 0, 0), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		t.Errorf("who trusts the first CA does not trust what the renewed one signs: %v", err)
	}
}

func TestInterruptedStartIsCompleted(t *testing.T) {
	for _, lost := range []string{"ca.crt", "apiserver.crt", "apiserver.key", "sa.pub"} {
		cfg := config(t)
		first := ensure(t, cfg)
		if err := os.Remove(filepath.Join(cfg.Dir, lost)); err != nil {
			t.Fatal(err)
		}
		p := ensure(t, cfg)
		if !slices.Contains(p.Made, lost) {
			t.Errorf("without %s, made %v", lost, p.Made)
		}
		if !samePublic(first.CA.Key.Public(), p.CA.Key.Public()) {
			t.Errorf("without %s, the CA's key was replaced", lost)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(dir string) error
		want  string
	}{
		{"corrupt certificate", func(d string) error { return os.WriteFile(filepath.Join(d, "apiserver.crt"), []byte("x"), 0o600) },
			"apiserver.crt: it holds no PEM certificate; restore it from a backup, or remove the file"},
		{"corrupt key", func(d string) error { return os.WriteFile(filepath.Join(d, "sa.key"), nil, 0o600) }, "sa.key: it holds no PEM private key"},
		{"certificate as key", func(d string) error {
			text, err := os.ReadFile(filepath.Join(d, "ca.crt"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "admin.key"), text, 0o600)
		}, `it holds a PEM block of type "CERTIFICATE"`},
		{"unreadable", func(d string) error {
			if err := os.Remove(filepath.Join(d, "ca.crt")); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(d, "ca.crt"), 0o700)
		}, "make it readable"},
		{"lost CA key", func(d string) error { return os.Remove(filepath.Join(d, "ca.key")) }, "ca.key is missing; restore it"},
		{"lost CA", func(d string) error {
			os.Remove(filepath.Join(d, "ca.crt"))
			return os.Remove(filepath.Join(d, "ca.key"))
		}, "apiserver.crt, which it signed, exists"},
		{"foreign CA key", func(d string) error {
			text, err := os.ReadFile(filepath.Join(d, "sa.key"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "ca.key"), text, 0o600)
		}, "is not its key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			ensure(t, cfg)
			if err := tc.spoil(cfg.Dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Ensure(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
