package metrics

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"binnacle.io/exporters/cgroup"
)

// Config is what users may choose. Zero values mean the defaults named.
type Config struct {
	// Dir is the database's directory.
	Dir string
	// Retention is how long samples are kept; 24 h. RetentionBytes bounds the
	// blocks on disk as well; 1 GiB. Whichever is reached first counts.
	Retention      time.Duration
	RetentionBytes int64
	// Interval is how often components and sources are gathered and pods
	// scraped that do not say otherwise; 15 s.
	Interval time.Duration
	// ContainerInterval is how often containers' CPU and memory are sampled;
	// 1 s.
	ContainerInterval time.Duration
	// Node is this node's name and Address its IP: they make the labels node
	// and instance.
	Node, Address string
	// Ports of jobs that are not where upstream has them, by job: they make
	// the label instance too.
	Ports map[string]int
	// ExternalLabels are put on what leaves by federation.
	ExternalLabels map[string]string
	// Targets are scraped besides annotated pods and services.
	Targets []Target
	// ScrapeConfigFiles are files (or globs) in Prometheus' format with
	// scrape_configs of static, file and HTTP discovery.
	ScrapeConfigFiles []string
	// NoDiscovery turns scraping of annotated pods and services off.
	NoDiscovery bool
	// QueryTimeout and QueryConcurrency bound PromQL; 2 min and 20.
	QueryTimeout     time.Duration
	QueryConcurrency int
}

// Target is a group of addresses scraped as one job.
type Target struct {
	Job       string
	Addresses []string
	// Scheme and Path default to http and /metrics.
	Scheme, Path string
	Interval     time.Duration
	Labels       map[string]string
}

func (c Config) withDefaults() (Config, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Retention, 24*time.Hour)
	def(&c.Interval, 15*time.Second)
	def(&c.ContainerInterval, time.Second)
	def(&c.QueryTimeout, 2*time.Minute)
	if c.RetentionBytes == 0 {
		c.RetentionBytes = 1 << 30
	}
	if c.QueryConcurrency == 0 {
		c.QueryConcurrency = 20
	}
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	switch {
	case c.Dir == "":
		return c, fmt.Errorf("cannot keep metrics: no directory is configured")
	case c.Interval < time.Second || c.ContainerInterval < 100*time.Millisecond:
		return c, fmt.Errorf("cannot gather metrics every %s (containers every %s): the shortest are 1s and 100ms", c.Interval, c.ContainerInterval)
	case c.Retention < time.Hour:
		return c, fmt.Errorf("cannot keep metrics for %s: the shortest retention is 1h", c.Retention)
	}
	return c, nil
}

// ports are where each job would be scraped from outside; they make instance.
var ports = map[string]string{
	"apiserver": "6443", "kubelet": "10250", "kube-controller-manager": "10257", "kube-scheduler": "10259",
	"kube-proxy": "10249", "etcd": "2379", "kube-dns": "9153", "coredns": "9153", "prometheus-k8s": "9090",
	"alertmanager-main": "9090", "kube-state-metrics": "9090",
}

// instance is the instance label of a job's in-process target.
func (c Config) instance(job string) string {
	if job == "node-exporter" && c.Node != "" {
		return c.Node
	}
	port := ports[job]
	if n := c.Ports[job]; n != 0 {
		port = strconv.Itoa(n)
	}
	if port == "" {
		port = "9090"
	}
	return net.JoinHostPort(c.Address, port)
}

// targetLabels are the labels of an in-process target besides job and
// instance, as kube-prometheus' monitors set them.
func (c Config) targetLabels(job string) map[string]string {
	switch job {
	case "kubelet":
		return map[string]string{"node": c.Node, "metrics_path": "/metrics", "endpoint": "https-metrics", "namespace": "kube-system", "service": "kubelet"}
	case "node-exporter":
		return map[string]string{"node": c.Node}
	case "apiserver":
		return map[string]string{"endpoint": "https", "namespace": "default", "service": "kubernetes"}
	default:
		return nil
	}
}

// Source is an in-process source of metrics besides the hub's components. One
// whose job, instance and metrics_path are those of a component joins that
// component's target, whose labels and interval then hold for both; one with
// a Skip never joins.
type Source struct {
	// Job is the job label. Instance and Labels override what the job would
	// have by default; an empty label value takes the label away.
	Job, Instance string
	Labels        map[string]string
	// Gatherer gives the metrics; it is called from one goroutine.
	Gatherer prometheus.Gatherer
	// Interval zero means Config.Interval.
	Interval time.Duration
	// Skip leaves series out that arrive another way.
	Skip func(family *dto.MetricFamily, m *dto.Metric) bool
}

// ContainerSource samples this node's containers; exporters/cgroup.Sampler is
// one, a simulation may be another.
type ContainerSource interface {
	Sample(dst []cgroup.Sample, containers []cgroup.Container) []cgroup.Sample
	Node() (cgroup.Usage, time.Time, error)
}

// Containers is where one-second samples come from and go to.
type Containers struct {
	Inventory cgroup.Inventory
	Source    ContainerSource
	History   *cgroup.History
}

// CAdvisor makes the Source of an exporter's container metrics: job kubelet,
// metrics_path /metrics/cadvisor, without the series that are sampled every
// second.
func CAdvisor(e prometheus.Gatherer) Source {
	return Source{
		Job: "kubelet", Labels: map[string]string{"metrics_path": "/metrics/cadvisor"}, Gatherer: e,
		Skip: func(f *dto.MetricFamily, m *dto.Metric) bool {
			if n := f.GetName(); n != containerCPU && n != containerMemory {
				return false
			}
			for _, l := range m.Label {
				if l.GetName() == "name" {
					return l.GetValue() != ""
				}
			}
			return false
		},
	}
}
