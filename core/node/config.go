package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"binnacle.io/core/auth"
	"binnacle.io/core/node/containerd"
)

// Config is what users may choose about a node.
type Config struct {
	// Name of the Node object. Default: the host name in lower case.
	Name string
	// DataDir (/var/lib/binnacle), RunDir (/run/binnacle), LogDir (/var/log;
	// pods' logs are in pods and containers below it).
	DataDir, RunDir, LogDir string
	// BinDir holds containerd, containerd-shim-runc-v2, runc and the CNI
	// plugin. Default: where this executable is.
	BinDir string
	// RuntimeEndpoint is the unix socket of a container runtime to use
	// instead of the bundled containerd.
	RuntimeEndpoint string
	// ImageDirs are searched for image archives (*.tar) to import at start.
	ImageDirs []string
	// SandboxImage defaults to binnacle.io/pause:1.
	SandboxImage string
	// CgroupRoot is the cgroup of all pods. Default /kubepods.
	CgroupRoot string

	// Address and Port the server listens on. Defaults: all addresses, 10250.
	// Port -1 takes a free one.
	Address string
	Port    int
	// NodeIPs are the node's addresses, primary first. Default: the address
	// of the default route's interface.
	NodeIPs []string
	// ServerTLS is the certificate of the node's server; nil means that it
	// makes one itself that nobody else vouches for.
	ServerTLS *tls.Certificate
	// ClientCAs signs the clients of the node's server.
	ClientCAs *x509.CertPool
	// Authorize decides on requests to the node's server; nil asks the API
	// by SubjectAccessReview.
	Authorize func(ctx context.Context, user *auth.User, verb, subresource string) error
	// CadvisorMetrics, ResourceMetrics and StatsSummary answer
	// /metrics/cadvisor, /metrics/resource and /stats/summary; nil is 404.
	CadvisorMetrics, ResourceMetrics, StatsSummary http.Handler

	// ClusterDNS are the name servers of pods, ClusterDomain their domain
	// (cluster.local).
	ClusterDNS    []string
	ClusterDomain string
	// ResolvConf is the host's resolver configuration (/etc/resolv.conf).
	ResolvConf string
	// MaxPods this node takes. Default 110.
	MaxPods int
	// Reserved is kept from pods for the system.
	Reserved corev1.ResourceList
	// Labels and Taints of the Node object when it is first registered.
	Labels map[string]string
	Taints []corev1.Taint
	// PodCIDR is told to runtimes that make their network configuration
	// from it.
	PodCIDR string
	// Version is shown as the kubelet's.
	Version string

	// Relist is how often all of the runtime is looked at, in case an event
	// was lost. Default 10 s.
	Relist time.Duration
	// RuntimeTimeout is how long the runtime may take to come up before
	// Run gives up. Default 2 min.
	RuntimeTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	if c.Name == "" {
		h, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("cannot name the node: %w", err)
		}
		c.Name = strings.ToLower(h)
	}
	def(&c.DataDir, "/var/lib/binnacle")
	def(&c.RunDir, "/run/binnacle")
	def(&c.LogDir, "/var/log")
	def(&c.SandboxImage, "binnacle.io/pause:1")
	def(&c.CgroupRoot, "/kubepods")
	def(&c.ClusterDomain, "cluster.local")
	def(&c.ResolvConf, "/etc/resolv.conf")
	def(&c.Version, "v1.37.2")
	if c.BinDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("cannot find the bundled binaries: %w", err)
		}
		c.BinDir = filepath.Dir(exe)
	}
	switch c.Port {
	case 0:
		c.Port = 10250
	case -1:
		c.Port = 0
	}
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	if c.Relist == 0 {
		c.Relist = 10 * time.Second
	}
	if c.RuntimeTimeout == 0 {
		c.RuntimeTimeout = 2 * time.Minute
	}
	if c.Reserved == nil {
		c.Reserved = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}
	}
	if len(c.NodeIPs) == 0 {
		ip, err := DefaultAddress()
		if err != nil {
			return c, err
		}
		c.NodeIPs = []string{ip}
	}
	var errs []error
	for _, ip := range append(append([]string{}, c.NodeIPs...), c.ClusterDNS...) {
		if net.ParseIP(ip) == nil {
			errs = append(errs, fmt.Errorf("%q is not an IP address", ip))
		}
	}
	for _, dir := range []string{c.DataDir, c.RunDir, c.LogDir, c.BinDir} {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("%q is not an absolute path", dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("cannot use node configuration: %w", err)
	}
	return c, nil
}

func (c Config) podsDir() string          { return filepath.Join(c.DataDir, "pods") }
func (c Config) podLogsDir() string       { return filepath.Join(c.LogDir, "pods") }
func (c Config) containerLogsDir() string { return filepath.Join(c.LogDir, "containers") }

// Socket returns the container runtime's socket.
func (c Config) Socket() string {
	if c.RuntimeEndpoint != "" {
		return strings.TrimPrefix(c.RuntimeEndpoint, "unix://")
	}
	return c.containerd().Socket()
}

func (c Config) containerd() containerd.Config {
	certs := filepath.Join(c.DataDir, "containerd", "certs.d")
	if _, err := os.Stat(certs); err != nil {
		certs = "/etc/containerd/certs.d"
	}
	return containerd.Config{
		DataDir: c.DataDir, RunDir: c.RunDir, BinDir: c.BinDir, SandboxImage: c.SandboxImage,
		CNIConfDir: filepath.Join(c.DataDir, "cni", "net.d"), CertsDir: certs, ImageDirs: c.ImageDirs,
	}
}

// DefaultAddress is this machine's: the source address of packets to the
// outside; none is sent.
func DefaultAddress() (string, error) {
	conn, err := net.Dial("udp4", "198.51.100.1:9") // TEST-NET-2
	if err == nil {
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
	}
	addrs, aerr := net.InterfaceAddrs()
	if aerr != nil {
		return "", fmt.Errorf("cannot find this machine's address: %w", aerr)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "127.0.0.1", nil
}
