package cgroup

import (
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// rateWindow is the span over which usageNanoCores is measured.
const rateWindow = 10 * time.Second

// SummaryHandler serves the kubelet's /stats/summary. Disk use of containers'
// own layers, logs and volumes is left out: it belongs to the runtime.
func (e *Exporter) SummaryHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		cpuAndMemory, _ := strconv.ParseBool(r.FormValue("only_cpu_and_memory"))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(e.Summary(cpuAndMemory)) // the client went away
	})
}

// Summary measures node, pods and containers now. With cpuAndMemory nothing
// else is filled in.
func (e *Exporter) Summary(cpuAndMemory bool) *stats.Summary {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := metav1.Now()
	sum := &stats.Summary{Node: stats.NodeStats{NodeName: e.node, StartTime: metav1.NewTime(e.bootTime())}, Pods: []stats.PodStats{}}
	if u, t, err := e.sampler.Node(); err == nil {
		at := metav1.NewTime(t)
		sum.Node.CPU = &stats.CPUStats{Time: at, UsageCoreNanoSeconds: &u.CPU}
		if e.history != nil {
			if r, ok := e.history.Node(rateWindow); ok {
				sum.Node.CPU.UsageNanoCores = nanoCores(r.Cores)
			}
		}
		available := saturatingSub(e.machine.Memory, u.WorkingSet)
		sum.Node.Memory = &stats.MemoryStats{Time: at, AvailableBytes: &available, UsageBytes: &u.Memory, WorkingSetBytes: &u.WorkingSet}
	}
	if !cpuAndMemory {
		sum.Node.Network = network(now, interfaces(e.proc, 1, e.reader.buf))
		sum.Node.Fs = filesystem(now, "/")
		sum.Node.Rlimit = e.rlimit(now)
	}
	index := map[string]int{}
	for _, c := range e.inv.Containers() {
		pod := c.podPath()
		i, ok := index[pod]
		if !ok {
			i = len(sum.Pods)
			index[pod] = i
			p := stats.PodStats{PodRef: stats.PodReference{Name: c.Pod, Namespace: c.Namespace, UID: c.PodUID}, Containers: []stats.ContainerStats{}}
			if s, ok := e.reader.read(pod); ok {
				p.CPU = &stats.CPUStats{Time: now, UsageCoreNanoSeconds: &s.CPU}
				p.Memory = memory(now, &s)
				if !cpuAndMemory {
					p.ProcessStats = &stats.ProcessStats{ProcessCount: &s.Threads}
				}
			}
			sum.Pods = append(sum.Pods, p)
		}
		p := &sum.Pods[i]
		e.addContainer(p, &c, now, cpuAndMemory)
	}
	slices.SortFunc(sum.Pods, func(a, b stats.PodStats) int {
		return strings.Compare(a.PodRef.Namespace+"/"+a.PodRef.Name, b.PodRef.Namespace+"/"+b.PodRef.Name)
	})
	return sum
}

// addContainer adds one container to its pod: its own row, its part of the
// pod's CPU rate, and the pod's network when it is the sandbox.
func (e *Exporter) addContainer(p *stats.PodStats, c *Container, now metav1.Time, cpuAndMemory bool) {
	var rate *uint64
	if e.history != nil {
		if r, ok := e.history.Container(c.ID, rateWindow); ok {
			rate = nanoCores(r.Cores)
			if p.CPU != nil {
				if p.CPU.UsageNanoCores == nil {
					p.CPU.UsageNanoCores = new(uint64)
				}
				*p.CPU.UsageNanoCores += *rate
			}
		}
	}
	if c.Sandbox {
		p.StartTime = metav1.NewTime(c.StartedAt)
		if c.SandboxPID > 0 && !cpuAndMemory {
			p.Network = network(now, interfaces(e.proc, c.SandboxPID, e.reader.buf))
		}
		return
	}
	s, ok := e.reader.read(c.CgroupPath)
	if !ok {
		return
	}
	p.Containers = append(p.Containers, stats.ContainerStats{
		Name: c.Name, StartTime: metav1.NewTime(c.StartedAt),
		CPU:    &stats.CPUStats{Time: now, UsageNanoCores: rate, UsageCoreNanoSeconds: &s.CPU},
		Memory: memory(now, &s),
		Swap:   swap(now, &s),
	})
}

func nanoCores(cores float64) *uint64 {
	v := uint64(cores * 1e9)
	return &v
}

func memory(now metav1.Time, s *Stats) *stats.MemoryStats {
	m := &stats.MemoryStats{
		Time: now, UsageBytes: &s.Memory, WorkingSetBytes: &s.WorkingSet, RSSBytes: &s.RSS,
		PageFaults: &s.Hierarchy.Minor, MajorPageFaults: &s.Hierarchy.Major,
	}
	if s.MemoryLimit != unlimited {
		available := saturatingSub(s.MemoryLimit, s.WorkingSet)
		m.AvailableBytes = &available
	}
	return m
}

func swap(now metav1.Time, s *Stats) *stats.SwapStats {
	if !s.hasSwap {
		return nil
	}
	return &stats.SwapStats{Time: now, SwapUsageBytes: &s.Swap}
}

func network(now metav1.Time, list []Interface) *stats.NetworkStats {
	if len(list) == 0 {
		return nil
	}
	n := &stats.NetworkStats{Time: now}
	for i := range list {
		v := &list[i]
		s := stats.InterfaceStats{Name: v.Name, RxBytes: &v.RxBytes, RxErrors: &v.RxErrors, TxBytes: &v.TxBytes, TxErrors: &v.TxErrors}
		n.Interfaces = append(n.Interfaces, s)
		if v.Name == "eth0" {
			n.InterfaceStats = s
		}
	}
	return n
}

func filesystem(now metav1.Time, dir string) *stats.FsStats {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil
	}
	size := uint64(st.Bsize)
	available, capacity, used := st.Bavail*size, st.Blocks*size, (st.Blocks-st.Bfree)*size
	inodesUsed := st.Files - st.Ffree
	return &stats.FsStats{Time: now, AvailableBytes: &available, CapacityBytes: &capacity, UsedBytes: &used,
		Inodes: &st.Files, InodesFree: &st.Ffree, InodesUsed: &inodesUsed}
}

func (e *Exporter) rlimit(now metav1.Time) *stats.RlimitStats {
	r := &stats.RlimitStats{Time: now}
	if b, err := readFile(path.Join(e.proc, "sys/kernel/pid_max"), e.reader.buf); err == nil {
		v, _ := parseUint(b)
		n := int64(v)
		r.MaxPID = &n
	}
	// The fourth field of loadavg is "running/total" scheduling entities.
	if b, err := readFile(path.Join(e.proc, "loadavg"), e.reader.buf); err == nil {
		if f := strings.Fields(string(b)); len(f) > 3 {
			_, total, _ := strings.Cut(f[3], "/")
			if n, err := strconv.ParseInt(total, 10, 64); err == nil {
				r.NumOfRunningProcesses = &n
			}
		}
	}
	return r
}

func (e *Exporter) bootTime() time.Time {
	b, err := readFile(path.Join(e.proc, "stat"), e.reader.buf)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(fieldOr(b, "btime")), 0)
}
