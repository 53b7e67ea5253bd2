package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/admission"
	"binnacle.io/core/audit"
	"binnacle.io/core/node"
)

const defaultConfigFile = "/etc/binnacle/binnacle.yaml"

// Config is what users write in binnacle.yaml. Everything has a default that
// is right for one machine.
type Config struct {
	// DataDir keeps what must survive, RunDir sockets, Kubeconfig the
	// administrator's access.
	DataDir    string `json:"dataDir,omitempty"`
	RunDir     string `json:"runDir,omitempty"`
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// MergeKubeconfig also puts the context "binnacle" into ~/.kube/config.
	MergeKubeconfig bool `json:"mergeKubeconfig,omitempty"`
	// BinDir holds the container runtime; default: beside this program.
	BinDir string `json:"binDir,omitempty"`
	// ImageDirs are searched for image archives to import.
	ImageDirs []string `json:"imageDirs,omitempty"`
	// RuntimeEndpoint is a container runtime to use instead of the bundled one.
	RuntimeEndpoint string `json:"runtimeEndpoint,omitempty"`

	// NodeName defaults to the host name, Address to that of the default route.
	NodeName string `json:"nodeName,omitempty"`
	Address  string `json:"address,omitempty"`

	PodCIDR       string `json:"podCIDR,omitempty"`
	ServiceCIDR   string `json:"serviceCIDR,omitempty"`
	ClusterDomain string `json:"clusterDomain,omitempty"`

	Ports Ports `json:"ports,omitempty"`
	// EtcdEndpoints are those of an etcd to use instead of the embedded one.
	EtcdEndpoints []string `json:"etcdEndpoints,omitempty"`
	// Etcd and Encryption are described in etcd.go.
	Etcd       EtcdConfig       `json:"etcd,omitempty"`
	Encryption EncryptionConfig `json:"encryption,omitempty"`

	Authentication Authentication `json:"authentication,omitempty"`
	Authorization  Authorization  `json:"authorization,omitempty"`

	Metrics struct {
		Retention      metav1.Duration `json:"retention,omitempty"`
		RetentionBytes int64           `json:"retentionBytes,omitempty"`
	} `json:"metrics,omitempty"`
	Alerting struct {
		// File is an Alertmanager configuration, Rules are Prometheus rule
		// files; both are read again on SIGHUP.
		File  string   `json:"file,omitempty"`
		Rules []string `json:"rules,omitempty"`
	} `json:"alerting,omitempty"`
	// Admission chooses among the built-in admission plugins, by upstream's
	// names, and says what pods may do in namespaces whose labels do not.
	Admission struct {
		Enable      []string                    `json:"enable,omitempty"`
		Disable     []string                    `json:"disable,omitempty"`
		PodSecurity admission.PodSecurityConfig `json:"podSecurity,omitempty"`
	} `json:"admission,omitempty"`
	// Audit says what is recorded of requests and where. Default: all of them at
	// level Metadata, in log/audit.log of the data directory, 3 files of 100 MiB.
	Audit audit.Config `json:"audit,omitempty"`
	// Requests bounds how many requests the API server works on at once:
	// priority and fairness divides the sum of both. Defaults 400 and 200.
	Requests struct {
		MaxInFlight         int `json:"maxInFlight,omitempty"`
		MaxMutatingInFlight int `json:"maxMutatingInFlight,omitempty"`
	} `json:"requests,omitempty"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `json:"logLevel,omitempty"`

	// agent: this machine is a node as well.
	agent bool
	// monitoring: without an agent it may be left out.
	monitoring bool
}

// Ports of this machine. The observability, OTLP and component ports are on
// loopback.
type Ports struct {
	API           int `json:"api,omitempty"`
	Kubelet       int `json:"kubelet,omitempty"`
	Observability int `json:"observability,omitempty"`
	OTLPGRPC      int `json:"otlpGRPC,omitempty"`
	OTLPHTTP      int `json:"otlpHTTP,omitempty"`
	Controllers   int `json:"controllers,omitempty"`
	Scheduler     int `json:"scheduler,omitempty"`
	ProxyMetrics  int `json:"proxyMetrics,omitempty"`
	ProxyHealth   int `json:"proxyHealth,omitempty"`
}

// byJob is where the components of a job can be scraped from outside.
func (p Ports) byJob() map[string]int {
	return map[string]int{
		"apiserver": p.API, "kubelet": p.Kubelet, "kube-controller-manager": p.Controllers, "kube-scheduler": p.Scheduler,
		"kube-proxy": p.ProxyMetrics, "prometheus-k8s": p.Observability, "alertmanager-main": p.Observability, "kube-state-metrics": p.Observability,
	}
}

func loadConfig(file string) (*Config, error) {
	cfg := &Config{}
	path := file
	if path == "" {
		path = defaultConfigFile
	}
	b, err := os.ReadFile(path)
	if file == "" && errors.Is(err, os.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(b, cfg); err != nil {
		return nil, fmt.Errorf("cannot understand %s: %w", path, err)
	}
	return cfg, nil
}

// complete fills in defaults and checks the whole.
func (c *Config) complete() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.DataDir, "/var/lib/binnacle")
	def(&c.RunDir, "/run/binnacle")
	def(&c.Kubeconfig, "/etc/binnacle/kubeconfig")
	def(&c.PodCIDR, "10.244.0.0/16")
	def(&c.ServiceCIDR, "10.96.0.0/12")
	def(&c.ClusterDomain, "cluster.local")
	def(&c.LogLevel, "info")
	if c.NodeName == "" {
		h, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("cannot name this node: %w; set nodeName", err)
		}
		c.NodeName = strings.ToLower(h)
	}
	if c.BinDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("cannot find the programs beside this one: %w; set binDir", err)
		}
		c.BinDir = filepath.Dir(exe)
	}
	if len(c.ImageDirs) == 0 {
		c.ImageDirs = []string{filepath.Join(c.BinDir, "images")}
	}
	if c.Address == "" {
		a, err := node.DefaultAddress()
		if err != nil {
			return fmt.Errorf("%w; set address", err)
		}
		c.Address = a
	}
	if c.Metrics.Retention.Duration == 0 {
		c.Metrics.Retention.Duration = 24 * time.Hour
	}
	for p, d := range map[*int]int{
		&c.Ports.API: 6443, &c.Ports.Kubelet: 10250, &c.Ports.Observability: 9090, &c.Ports.OTLPGRPC: 4317, &c.Ports.OTLPHTTP: 4318,
		&c.Ports.Controllers: 10257, &c.Ports.Scheduler: 10259, &c.Ports.ProxyMetrics: 10249, &c.Ports.ProxyHealth: 10256,
	} {
		if *p == 0 {
			*p = d
		}
	}
	_, err1 := netip.ParseAddr(c.Address)
	_, err2 := netip.ParsePrefix(c.PodCIDR)
	_, err3 := netip.ParsePrefix(c.ServiceCIDR)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("cannot use the configuration: %w", err)
	}
	return c.Authorization.complete()
}

func (c *Config) address() netip.Addr       { return netip.MustParseAddr(c.Address) }
func (c *Config) podCIDR() netip.Prefix     { return netip.MustParsePrefix(c.PodCIDR) }
func (c *Config) serviceCIDR() netip.Prefix { return netip.MustParsePrefix(c.ServiceCIDR) }
func (c *Config) apiServiceIP() netip.Addr  { return c.serviceIP(1) }
func (c *Config) dnsIP() netip.Addr         { return c.serviceIP(10) }
func (c *Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.DataDir}, elem...)...)
}

// serviceIP is the nth address of the service range.
func (c *Config) serviceIP(n int) netip.Addr {
	a := c.serviceCIDR().Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}
