package node

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/node_exporter/collector"
)

// Config chooses what is shown. The zero value is right on a usual system.
type Config struct {
	// Proc, Sys and RootFS are where the kernel's file systems are; empty
	// means /proc, /sys and /.
	Proc, Sys, RootFS string
	// Collectors are node_exporter collector names; empty means Defaults.
	Collectors []string
	// IgnoreMounts and IgnoreDevices are regular expressions of mount points
	// and network devices to leave out; empty means pods' own.
	IgnoreMounts, IgnoreDevices string
}

// defaults are the collectors shown unless told otherwise: those of
// node_exporter that apply to servers and VMs, and processes, tcpstat and
// interrupts, which the common dashboard asks for.
var defaults = []string{
	"arp", "bonding", "conntrack", "cpu", "cpufreq", "diskstats", "dmi", "edac", "entropy", "filefd", "filesystem", "hwmon",
	"interrupts", "ipvs", "kernel_hung", "loadavg", "mdadm", "meminfo", "netclass", "netdev", "netstat", "nfs", "nfsd",
	"nvme", "os", "powersupplyclass", "pressure", "processes", "rapl", "schedstat", "sockstat", "softnet",
	"stat", "tcpstat", "textfile", "thermal_zone", "time", "timex", "udp_queues", "uname", "vmstat", "xfs",
}

// Defaults returns the names of the default collectors.
func Defaults() []string { return slices.Clone(defaults) }

const (
	podMounts  = `^/(dev|proc|sys|run/credentials/.+|run/containerd/.+|run/netns/.+|run/binnacle/.+|var/lib/docker/.+|var/lib/containers/storage/.+|var/lib/containerd/.+|var/lib/kubelet/pods/.+|var/lib/binnacle/.+)($|/)`
	podDevices = `^(veth|cali|lxc|azv|cni|nodelocaldns|kube-ipvs|bn[0-9a-f]{12}$).*`
)

// flags guards node_exporter's global configuration: it can be given only
// through the process-wide kingpin application, so all exporters of a process
// share the first one's paths.
var flags sync.Mutex

// Exporter shows the machine's metrics. It is safe for concurrent use.
type Exporter struct {
	registry *prometheus.Registry
}

// New starts the collectors. A collector that this kernel or machine cannot
// serve shows node_scrape_collector_success 0, as upstream.
func New(cfg Config, log *slog.Logger) (*Exporter, error) {
	for _, d := range []struct {
		p *string
		v string
	}{{&cfg.Proc, "/proc"}, {&cfg.Sys, "/sys"}, {&cfg.RootFS, "/"}, {&cfg.IgnoreMounts, podMounts}, {&cfg.IgnoreDevices, podDevices}} {
		if *d.p == "" {
			*d.p = d.v
		}
	}
	if len(cfg.Collectors) == 0 {
		cfg.Collectors = defaults
	}
	args := []string{
		"--path.procfs=" + cfg.Proc, "--path.sysfs=" + cfg.Sys, "--path.rootfs=" + cfg.RootFS,
		"--collector.filesystem.mount-points-exclude=" + cfg.IgnoreMounts,
		"--collector.netdev.device-exclude=" + cfg.IgnoreDevices,
		"--collector.netclass.ignored-devices=" + cfg.IgnoreDevices,
	}
	for _, c := range cfg.Collectors {
		args = append(args, "--collector."+c)
	}
	flags.Lock()
	defer flags.Unlock()
	if _, err := kingpin.CommandLine.Parse(args); err != nil {
		return nil, fmt.Errorf("cannot configure node collectors %q: %w", cfg.Collectors, err)
	}
	// A collector may refuse to start (a controller is missing, say); the
	// others must not suffer.
	var all *collector.NodeCollector
	for _, name := range cfg.Collectors {
		one, err := collector.NewNodeCollector(log, name)
		if err != nil {
			log.Info("node collector is not available here", "collector", name, "err", err)
			continue
		}
		if all == nil {
			all = &collector.NodeCollector{}
			*all = *one
			all.Collectors = map[string]collector.Collector{}
		}
		for n, v := range one.Collectors {
			all.Collectors[n] = quiet{v}
		}
	}
	if all == nil {
		return nil, fmt.Errorf("cannot start any of the node collectors %q", cfg.Collectors)
	}
	e := &Exporter{registry: prometheus.NewRegistry()}
	e.registry.MustRegister(all, buildInfo())
	return e, nil
}

// quiet turns a collector's failure into "no data", which is counted in
// node_scrape_collector_success and logged at debug level: a machine without
// some hardware would otherwise log an error with each scrape.
type quiet struct{ collector.Collector }

func (q quiet) Update(ch chan<- prometheus.Metric) error {
	if err := q.Collector.Update(ch); err != nil {
		return collector.ErrNoData
	}
	return nil
}

func buildInfo() prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "node_exporter_build_info", Help: "A metric with a constant '1' value labeled by the embedding program.",
	}, []string{"version"})
	g.WithLabelValues("embedded").Set(1)
	return g
}

// Gather collects everything now.
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) { return e.registry.Gather() }

// Handler serves the metrics as text for scrapers.
func (e *Exporter) Handler() http.Handler {
	return promhttp.HandlerFor(e, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
