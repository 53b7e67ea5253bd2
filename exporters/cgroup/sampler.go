package cgroup

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where the kernel's files are. The zero value is right on a
// usual system.
type Config struct {
	// Root is the cgroup mount point; empty means DefaultRoot.
	Root string
	// Version forces the layout; zero detects it.
	Version Version
	// Proc is the proc file system; empty means /proc.
	Proc string
	// Sys is the sysfs; empty means /sys.
	Sys string
}

// Usage is a cgroup's CPU time and memory at one moment.
type Usage struct {
	// CPU is the time spent since the cgroup was made, in nanoseconds.
	CPU uint64
	// Memory is everything charged, in bytes; WorkingSet leaves out inactive
	// file cache, as the kubelet's eviction and kubectl top count it.
	Memory, WorkingSet uint64
}

// Sample is the usage of one container.
type Sample struct {
	// Container is shared and must not be changed.
	Container *Container
	Time      time.Time
	Usage
}

// Sampler reads CPU and memory of many containers again and again. It keeps
// three files per container open. It is safe for concurrent use.
type Sampler struct {
	tree tree
	proc string

	mu     sync.Mutex
	groups map[string]*group // by container ID, guarded by mu
	buf    [8192]byte        // guarded by mu
	round  uint64            // guarded by mu
}

// group is one container's cgroup with open files; -1 is not open.
type group struct {
	container Container
	cpu       int
	memory    int
	stat      int
	round     uint64
}

// NewSampler returns a sampler without open files. Close it after use.
func NewSampler(cfg Config) (*Sampler, error) {
	t, err := newTree(cfg.Root, cfg.Version)
	if err != nil {
		return nil, err
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	return &Sampler{tree: t, proc: cfg.Proc, groups: map[string]*group{}}, nil
}

// Sample appends a sample of each container to dst and returns it. Containers
// whose cgroup has gone, or is not there yet, are left out.
func (s *Sampler) Sample(dst []Sample, containers []Container) []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round++
	known := 0
	for i := range containers {
		c := &containers[i]
		g := s.groups[c.ID]
		if g != nil && g.container.CgroupPath != c.CgroupPath {
			g.close()
			delete(s.groups, c.ID)
			g = nil
		}
		if g == nil {
			var err error
			if g, err = s.open(c); err != nil {
				continue
			}
			s.groups[c.ID] = g
		}
		known++
		g.round = s.round
		u, err := s.tree.usage(g.cpu, g.memory, g.stat, s.buf[:])
		if err != nil {
			g.close()
			delete(s.groups, c.ID)
			known--
			continue
		}
		dst = append(dst, Sample{Container: &g.container, Time: time.Now(), Usage: u})
	}
	if known != len(s.groups) {
		for id, g := range s.groups {
			if g.round != s.round {
				g.close()
				delete(s.groups, id)
			}
		}
	}
	return dst
}

// Open returns how many containers have open files.
func (s *Sampler) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.groups)
}

// Close closes all files. It is safe twice; sampling again opens them anew.
func (s *Sampler) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, g := range s.groups {
		g.close()
		delete(s.groups, id)
	}
	return nil
}

func (s *Sampler) open(c *Container) (*group, error) {
	cpu, memory, stat := s.tree.usageFiles(c.CgroupPath)
	g := &group{container: *c, cpu: -1, memory: -1, stat: -1}
	var err error
	for _, f := range []struct {
		fd   *int
		name string
	}{{&g.cpu, cpu}, {&g.memory, memory}, {&g.stat, stat}} {
		if *f.fd, err = openFile(f.name); err != nil {
			*f.fd = -1
			g.close()
			return nil, fmt.Errorf("cannot open %q: %w", f.name, err)
		}
	}
	return g, nil
}

func (g *group) close() {
	for _, fd := range []*int{&g.cpu, &g.memory, &g.stat} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// usageFiles names the files usage reads.
func (t tree) usageFiles(path string) (cpu, memory, stat string) {
	if t.version == V2 {
		return t.file("", path, "cpu.stat"), t.file("", path, "memory.current"), t.file("", path, "memory.stat")
	}
	return t.file("cpuacct", path, "cpuacct.usage"), t.file("memory", path, "memory.usage_in_bytes"), t.file("memory", path, "memory.stat")
}

// usage reads one cgroup's CPU and memory from open files.
func (t tree) usage(cpu, memory, stat int, buf []byte) (Usage, error) {
	var u Usage
	b, err := readAt(cpu, buf)
	if err != nil {
		return u, err
	}
	inactive := "total_inactive_file"
	if t.version == V2 {
		u.CPU = fieldOr(b, "usage_usec") * 1000
		inactive = "inactive_file"
	} else {
		u.CPU, _ = parseUint(b)
	}
	if b, err = readAt(memory, buf); err != nil {
		return u, err
	}
	u.Memory, _ = parseUint(b)
	if b, err = readAt(stat, buf); err != nil {
		return u, err
	}
	u.WorkingSet = saturatingSub(u.Memory, fieldOr(b, inactive))
	return u, nil
}

func saturatingSub(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}
