package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config says for which cluster and node certificates are made.
type Config struct {
	// Dir holds the files; it is made when missing.
	Dir string
	// NodeName is the name of this machine as a Node.
	NodeName string
	// Hostnames and Addresses are those under which this machine is reached,
	// besides localhost. NodeName is one of them anyway.
	Hostnames []string
	Addresses []netip.Addr
	// ServiceAddress is the ClusterIP of the kubernetes Service; default 10.96.0.1.
	ServiceAddress netip.Addr
	// ClusterDomain defaults to cluster.local.
	ClusterDomain string
	// Life of certificates and of authorities; default 1 and 10 years.
	Life, AuthorityLife time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (c *Config) complete() error {
	if c.Dir == "" {
		return fmt.Errorf("cannot make certificates: no directory is configured")
	}
	if c.NodeName == "" {
		return fmt.Errorf("cannot make certificates in %s: no node name is configured", c.Dir)
	}
	if !c.ServiceAddress.IsValid() {
		c.ServiceAddress = netip.AddrFrom4([4]byte{10, 96, 0, 1})
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.Life <= 0 {
		c.Life = 365 * 24 * time.Hour
	}
	if c.AuthorityLife <= 0 {
		c.AuthorityLife = 3650 * 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Pair is a certificate and its key, as files and in memory.
type Pair struct {
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte
	Cert              *x509.Certificate
	Key               crypto.Signer
}

// TLS returns the pair for a tls.Config.
func (p *Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key, Leaf: p.Cert}
}

// PKI is everything in the directory.
type PKI struct {
	Dir string
	// CA signs all server and client certificates of the cluster.
	CA *Pair
	// FrontProxyCA signs the certificates of proxies that may vouch for
	// users by header.
	FrontProxyCA *Pair
	// Serving certificates.
	APIServer, Kubelet *Pair
	// Client certificates. Admin is in system:masters.
	Admin, ControllerManager, Scheduler, Proxy *Pair
	// KubeletClient is the node's (system:node:<name>), APIServerKubeletClient
	// the API server's towards nodes, FrontProxyClient the API server's towards
	// aggregated API servers.
	KubeletClient, APIServerKubeletClient, FrontProxyClient *Pair
	// ServiceAccountKey signs service-account tokens; sa.pub beside it
	// verifies them.
	ServiceAccountKey crypto.Signer
	// Made lists the files this call wrote, relative to Dir.
	Made []string
}

// Pool returns a pool that trusts the cluster's CA and nothing else.
func (p *PKI) Pool() *x509.CertPool { return pool(p.CA) }

// FrontProxyPool returns a pool that trusts the front proxy's CA only.
func (p *PKI) FrontProxyPool() *x509.CertPool { return pool(p.FrontProxyCA) }

func pool(ca *Pair) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// leaf is what a certificate must say.
type leaf struct {
	file      string // below Dir, without extension
	ca        **Pair
	into      **Pair
	name      string
	groups    []string
	server    bool
	client    bool
	dnsNames  []string
	addresses []netip.Addr
}

// Ensure reads the directory, makes what is missing, renews what is due, and
// returns the whole.
func Ensure(cfg Config) (*PKI, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make certificate directory: %w", err)
	}
	p := &PKI{Dir: cfg.Dir}
	leaves := p.leaves(cfg)
	d := &directory{cfg: cfg, made: &p.Made}
	var err error
	if p.CA, err = d.authority("ca", "kubernetes", signedBy(leaves, &p.CA)); err != nil {
		return nil, err
	}
	if p.FrontProxyCA, err = d.authority("front-proxy-ca", "front-proxy-ca", signedBy(leaves, &p.FrontProxyCA)); err != nil {
		return nil, err
	}
	for _, l := range leaves {
		if *l.into, err = d.leaf(l, *l.ca); err != nil {
			return nil, err
		}
	}
	if p.ServiceAccountKey, err = d.serviceAccountKey(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *PKI) leaves(cfg Config) []leaf {
	local := []string{"localhost", cfg.NodeName}
	local = append(local, cfg.Hostnames...)
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	own := append(slices.Clone(loopback), cfg.Addresses...)
	api := append(slices.Clone(local), "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc."+cfg.ClusterDomain)
	return []leaf{
		{file: "apiserver", ca: &p.CA, into: &p.APIServer, name: "kube-apiserver", server: true,
			dnsNames: api, addresses: append(slices.Clone(own), cfg.ServiceAddress)},
		{file: "kubelet", ca: &p.CA, into: &p.Kubelet, name: "system:node:" + cfg.NodeName, groups: []string{"system:nodes"}, server: true,
			dnsNames: local, addresses: own},
		{file: "admin", ca: &p.CA, into: &p.Admin, name: "kubernetes-admin", groups: []string{"system:masters"}, client: true},
		{file: "controller-manager", ca: &p.CA, into: &p.ControllerManager, name: "system:kube-controller-manager", client: true},
		{file: "scheduler", ca: &p.CA, into: &p.Scheduler, name: "system:kube-scheduler", client: true},
		{file: "proxy", ca: &p.CA, into: &p.Proxy, name: "system:kube-proxy", client: true},
		{file: "kubelet-client", ca: &p.CA, into: &p.KubeletClient, name: "system:node:" + cfg.NodeName, groups: []string{"system:nodes"}, client: true},
		{file: "apiserver-kubelet-client", ca: &p.CA, into: &p.APIServerKubeletClient, name: "kube-apiserver-kubelet-client",
			groups: []string{"kubeadm:cluster-admins"}, client: true},
		{file: "front-proxy-client", ca: &p.FrontProxyCA, into: &p.FrontProxyClient, name: "front-proxy-client", client: true},
	}
}

// signedBy returns the files (without extension) that ca signs.
func signedBy(leaves []leaf, ca **Pair) []string {
	var files []string
	for _, l := range leaves {
		if l.ca == ca {
			files = append(files, l.file)
		}
	}
	return files
}

// normal returns the DNS names and addresses of l, sorted and without
// duplicates; names that are addresses move to the addresses.
func (l *leaf) normal() (names []string, ips []net.IP) {
	addrs := slices.Clone(l.addresses)
	for _, n := range l.dnsNames {
		if a, err := netip.ParseAddr(n); err == nil {
			addrs = append(addrs, a)
			continue
		}
		names = append(names, strings.ToLower(n))
	}
	slices.Sort(names)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range slices.Compact(addrs) {
		ips = append(ips, net.IP(a.AsSlice()))
	}
	return slices.Compact(names), ips
}

func (l *leaf) template() *x509.Certificate {
	names, ips := l.normal()
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: l.name, Organization: l.groups},
		DNSNames:    names,
		IPAddresses: ips,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	if l.server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	return t
}

// due reports whether less than 30 % of the certificate's life is left.
func due(c *x509.Certificate, now time.Time) bool {
	life := c.NotAfter.Sub(c.NotBefore)
	return now.Before(c.NotBefore) || c.NotAfter.Sub(now) < life*3/10
}

// fits reports whether an existing certificate is what l asks for.
func (l *leaf) fits(c *x509.Certificate, ca *x509.Certificate, now time.Time) bool {
	want := l.template()
	return !due(c, now) &&
		c.CheckSignatureFrom(ca) == nil &&
		c.Subject.CommonName == want.Subject.CommonName &&
		slices.Equal(c.Subject.Organization, want.Subject.Organization) &&
		slices.Equal(c.DNSNames, want.DNSNames) &&
		slices.EqualFunc(c.IPAddresses, want.IPAddresses, net.IP.Equal) &&
		slices.Equal(c.ExtKeyUsage, want.ExtKeyUsage)
}

func (d *directory) path(file string) string { return filepath.Join(d.cfg.Dir, file) }
