package store

import (
	"context"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/telemetry"
)

// securedEtcd runs an etcd that wants certificates, and returns how to reach
// it and those of another cluster.
func securedEtcd(t *testing.T) (cfg Config, others *pki.PKI) {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	certs := must(pki.Ensure(pki.Config{Dir: filepath.Join(t.TempDir(), "pki"), NodeName: "node", Addresses: []netip.Addr{loopback}}))(t)
	others = must(pki.Ensure(pki.Config{Dir: filepath.Join(t.TempDir(), "pki"), NodeName: "node", Addresses: []netip.Addr{loopback}}))(t)
	ec := embed.NewConfig()
	ec.Dir, ec.ZapLoggerBuilder = t.TempDir(), embed.NewZapLoggerBuilder(zapLogger(telemetry.Discard().Log))
	ec.ListenPeerUrls, ec.UnsafeNoFsync, ec.EnableGRPCGateway = nil, true, false
	u := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	ec.ListenClientUrls, ec.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	ec.ClientTLSInfo = transport.TLSInfo{CertFile: certs.APIServer.CertFile, KeyFile: certs.APIServer.KeyFile, TrustedCAFile: certs.CA.CertFile, ClientCertAuth: true}
	e := must(embed.StartEtcd(ec))(t)
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return Config{
		Endpoints: []string{"https://" + e.Clients[0].Addr().String()},
		CAFile:    certs.CA.CertFile, CertFile: certs.Admin.CertFile, KeyFile: certs.Admin.KeyFile,
	}, others
}

func TestExternalEtcdWithTLS(t *testing.T) {
	t.Parallel()
	cfg, others := securedEtcd(t)
	s := open(t, cfg)
	must(s.Create(t.Context(), configMaps, configMap("ns", "c", "1")))(t)
	readable(t, s, "c", "1")
	a := administer(t, cfg)
	if h := a.Health(t.Context()); !h[0].Healthy {
		t.Errorf("health %+v", h)
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := a.Save(t.Context(), file); err != nil {
		t.Error(err)
	}

	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"another CA":     {func(c *Config) { c.CAFile = others.CA.CertFile }, "certificate signed by unknown authority"},
		"no certificate": {func(c *Config) { c.CertFile, c.KeyFile = "", "" }, "tls: certificate required"},
		"another's":      {func(c *Config) { c.CertFile, c.KeyFile = others.Admin.CertFile, others.Admin.KeyFile }, "remote error: tls"},
		"key missing":    {func(c *Config) { c.KeyFile = "" }, "go together"},
		"no such CA":     {func(c *Config) { c.CAFile = "/nonexistent/ca.crt" }, "/nonexistent/ca.crt"},
	} {
		bad := cfg
		c.change(&bad)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := Open(ctx, bad, testKinds(), telemetry.Discard())
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
