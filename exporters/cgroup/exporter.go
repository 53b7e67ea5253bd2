package cgroup

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// Exporter shows all container metrics. It is a prometheus.Gatherer and safe
// for concurrent use.
type Exporter struct {
	inv     Inventory
	node    string
	proc    string
	sys     string
	tree    tree
	machine Machine
	sampler *Sampler
	history *History
	version string

	mu     sync.Mutex
	reader statsReader // guarded by mu
}

// NewExporter returns an exporter of the containers in inv. history may be
// nil: then /stats/summary has no usageNanoCores. version is the program's.
func NewExporter(cfg Config, node, version string, inv Inventory, history *History) (*Exporter, error) {
	if cfg.Sys == "" {
		cfg.Sys = "/sys"
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	s, err := NewSampler(cfg)
	if err != nil {
		return nil, err
	}
	return &Exporter{
		inv: inv, node: node, proc: cfg.Proc, sys: cfg.Sys, tree: s.tree, sampler: s, history: history, version: version,
		machine: readMachine(cfg.Proc, cfg.Sys), reader: statsReader{tree: s.tree, buf: make([]byte, 16<<10)},
	}, nil
}

// Close releases the files kept open. It is safe twice.
func (e *Exporter) Close() error { return e.sampler.Close() }

// Handler serves the kubelet's /metrics/cadvisor.
func (e *Exporter) Handler() http.Handler {
	return promhttp.HandlerFor(e, promhttp.HandlerOpts{})
}

// row is one cgroup that is shown, with the labels the kubelet gives it.
type row struct {
	path                             string
	name, image, namespace, pod, ctr string
	started                          time.Time
	networkPID                       int
}

// rows lists what the kubelet shows: the root, the kubelet's own levels, each
// pod and each container with its sandbox. The pod's network is on the
// sandbox row, as containerd's handler in cAdvisor has it.
func rows(containers []Container) []row {
	list := []row{{path: "/", networkPID: 1}}
	levels := map[string]bool{}
	pods := map[string]bool{}
	for i := range containers {
		c := &containers[i]
		pod := c.podPath()
		for level := path.Dir(pod); level != "/" && level != "."; level = path.Dir(level) {
			if !levels[level] {
				levels[level] = true
				list = append(list, row{path: level})
			}
		}
		if !pods[pod] {
			pods[pod] = true
			list = append(list, row{path: pod, namespace: c.Namespace, pod: c.Pod})
		}
		r := row{path: c.CgroupPath, name: c.ID, image: c.Image, namespace: c.Namespace, pod: c.Pod, ctr: c.Name, started: c.StartedAt}
		if c.Sandbox {
			r.ctr = ""
			r.networkPID = c.SandboxPID
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b row) int { return strings.Compare(a.path, b.path) })
	return list
}

// Gather reads every container's cgroup.
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	f := &families{}
	e.machineMetrics(f)
	for _, r := range rows(e.inv.Containers()) {
		s, ok := e.reader.read(r.path)
		if !ok {
			continue
		}
		if r.path == "/" {
			// The root has no limits and, in version 2, no usage files.
			if u, _, err := e.sampler.Node(); err == nil {
				s.Usage = u
			}
		}
		base := pairs("container", r.ctr, "id", r.path, "image", r.image, "name", r.name, "namespace", r.namespace, "pod", r.pod)
		e.cpuMetrics(f, base, &s)
		e.memoryMetrics(f, base, &s)
		e.ioMetrics(f, base, &s)
		e.processMetrics(f, base, &s, r, now)
		if r.networkPID > 0 {
			for _, n := range interfaces(e.proc, r.networkPID, e.reader.buf) {
				networkMetrics(f, with(base, "interface", n.Name), &n)
			}
		}
	}
	return f.sorted(), nil
}

func (e *Exporter) machineMetrics(f *families) {
	m := &e.machine
	l := pairs("boot_id", m.BootID, "machine_id", m.MachineID, "system_uuid", m.SystemUUID)
	f.gauge("machine_cpu_cores", "Number of logical CPU cores.", l, float64(m.Cores))
	f.gauge("machine_cpu_physical_cores", "Number of physical CPU cores.", l, float64(m.PhysicalCores))
	f.gauge("machine_memory_bytes", "Amount of memory installed on the machine.", l, float64(m.Memory))
	f.gauge("machine_swap_bytes", "Amount of swap memory available on the machine.", l, float64(m.Swap))
	f.gauge("cadvisor_version_info", "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.",
		pairs("cadvisorRevision", "", "cadvisorVersion", e.version, "dockerVersion", "", "kernelVersion", m.Kernel, "osVersion", m.OS), 1)
	f.gauge("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil, 0)
}

func seconds(ns uint64) float64 { return float64(ns) / 1e9 }

func (e *Exporter) cpuMetrics(f *families, l []*dto.LabelPair, s *Stats) {
	f.counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", with(l, "cpu", "total"), seconds(s.CPU))
	f.counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", l, seconds(s.User))
	f.counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", l, seconds(s.System))
	f.gauge("container_spec_cpu_period", "CPU period of the container.", l, float64(s.CPUPeriod))
	f.gauge("container_spec_cpu_shares", "CPU share of the container.", l, float64(s.CPUShares))
	if s.CPUQuota == unlimited {
		return
	}
	// As cAdvisor: throttling is shown only where there is a quota.
	f.gauge("container_spec_cpu_quota", "CPU quota of the container.", l, float64(s.CPUQuota))
	f.counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", l, float64(s.Periods))
	f.counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", l, float64(s.Throttled))
	f.counter("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", l, seconds(s.ThrottledTime))
}

func limit(v uint64) float64 {
	if v == unlimited {
		return 0
	}
	return float64(v)
}

func (e *Exporter) memoryMetrics(f *families, l []*dto.LabelPair, s *Stats) {
	f.gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", l, float64(s.Memory))
	f.gauge("container_memory_working_set_bytes", "Current working set in bytes.", l, float64(s.WorkingSet))
	f.gauge("container_memory_rss", "Size of RSS in bytes.", l, float64(s.RSS))
	f.gauge("container_memory_cache", "Number of bytes of page cache memory.", l, float64(s.Cache))
	f.gauge("container_memory_swap", "Container swap usage in bytes.", l, float64(s.Swap))
	f.gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", l, float64(s.Mapped))
	f.gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", l, float64(s.MaxUsage))
	f.counter("container_memory_failcnt", "Number of memory usage hits limits", l, float64(s.Failures))
	const failures, help = "container_memory_failures_total", "Cumulative count of memory allocation failures."
	if s.hasFaultsOfItsOwn {
		f.counter(failures, help, with(l, "failure_type", "pgfault", "scope", "container"), float64(s.Own.Minor))
		f.counter(failures, help, with(l, "failure_type", "pgmajfault", "scope", "container"), float64(s.Own.Major))
	}
	f.counter(failures, help, with(l, "failure_type", "pgfault", "scope", "hierarchy"), float64(s.Hierarchy.Minor))
	f.counter(failures, help, with(l, "failure_type", "pgmajfault", "scope", "hierarchy"), float64(s.Hierarchy.Major))
	f.gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", l, limit(s.MemoryLimit))
	f.gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", l, limit(s.SwapLimit))
	f.gauge("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", l, float64(s.MemoryReservation))
	f.counter("container_oom_events_total", "Count of out of memory events observed for the container", l, float64(s.OOMKills))
}

func (e *Exporter) ioMetrics(f *families, l []*dto.LabelPair, s *Stats) {
	for _, d := range s.Devices {
		dl := with(l, "device", deviceName(e.sys, d))
		f.counter("container_fs_reads_bytes_total", "Cumulative count of bytes read", dl, float64(d.ReadBytes))
		f.counter("container_fs_writes_bytes_total", "Cumulative count of bytes written", dl, float64(d.WrittenBytes))
		f.counter("container_fs_reads_total", "Cumulative count of reads completed", dl, float64(d.Reads))
		f.counter("container_fs_writes_total", "Cumulative count of writes completed", dl, float64(d.Writes))
	}
}

func (e *Exporter) processMetrics(f *families, l []*dto.LabelPair, s *Stats, r row, now time.Time) {
	f.gauge("container_processes", "Number of processes running inside the container.", l, float64(s.Processes))
	f.gauge("container_threads", "Number of threads running inside the container", l, float64(s.Threads))
	f.gauge("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", l, limit(s.MaxThreads))
	started := r.started
	if started.IsZero() {
		started = s.Created
	}
	f.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", l, float64(started.Unix()))
	f.gauge("container_last_seen", "Last time a container was seen by the exporter", l, float64(now.Unix()))
}

func networkMetrics(f *families, l []*dto.LabelPair, n *Interface) {
	f.counter("container_network_receive_bytes_total", "Cumulative count of bytes received", l, float64(n.RxBytes))
	f.counter("container_network_receive_packets_total", "Cumulative count of packets received", l, float64(n.RxPackets))
	f.counter("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", l, float64(n.RxErrors))
	f.counter("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", l, float64(n.RxDropped))
	f.counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", l, float64(n.TxBytes))
	f.counter("container_network_transmit_packets_total", "Cumulative count of packets transmitted", l, float64(n.TxPackets))
	f.counter("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", l, float64(n.TxErrors))
	f.counter("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", l, float64(n.TxDropped))
}

var _ prometheus.Gatherer = (*Exporter)(nil)
