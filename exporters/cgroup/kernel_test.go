package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// poll tries f until it succeeds; the kernel announces neither a freed group
// nor a charged page.
func poll(timeout time.Duration, f func() error) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return err
		}
	}
}

// realGroup makes a cgroup of our own in every hierarchy and moves a busy
// process into it; both go with the test.
func realGroup(t *testing.T, tr tree, path string) *os.Process {
	t.Helper()
	controllers := []string{"cpu", "cpuacct", "memory", "blkio", "pids"}
	if tr.version == V2 {
		controllers = []string{""}
	}
	cmd := exec.Command("sh", "-c", "read go; exec dd if=/dev/zero of=/dev/null bs=8M")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		for _, d := range dirs {
			// The kernel frees a group a moment after its last process.
			if err := poll(5*time.Second, func() error { return os.Remove(d) }); err != nil {
				t.Errorf("cannot remove %q: %v", d, err)
			}
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range controllers {
		d := filepath.Dir(tr.file(c, path, "cgroup.procs"))
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Skipf("cannot make cgroups here: %v", err)
		}
		dirs = append(dirs, d)
		if err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Skipf("cannot move a process to a cgroup here: %v", err)
		}
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	return cmd.Process
}

func TestKernel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make a cgroup")
	}
	tr, err := newTree("", 0)
	if err != nil {
		t.Skip(err)
	}
	path := fmt.Sprintf("/binnacle-test-%d", os.Getpid())
	p := realGroup(t, tr, path)
	inv := Fixed{{ID: "real", Namespace: "ns", Pod: "p", Name: "c", Image: "i", SandboxPID: p.Pid, CgroupPath: path, StartedAt: time.Now()}}
	s, err := NewSampler(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := NewHistory()
	err = poll(20*time.Second, func() error {
		samples := s.Sample(nil, inv)
		if len(samples) != 1 {
			return fmt.Errorf("%d samples", len(samples))
		}
		h.Add(samples)
		r, ok := h.Container("real", 5*time.Second)
		if !ok || samples[0].CPU < 50e6 || r.Cores < .05 || samples[0].Memory == 0 {
			return fmt.Errorf("the busy process used %v (rate %+v)", samples[0].Usage, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewExporter(Config{}, "n", "0", inv, h)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	stats, ok := e.reader.read(path)
	if !ok || stats.CPU == 0 || stats.User+stats.System == 0 || stats.Memory == 0 || stats.Processes != 1 || stats.Threads == 0 {
		t.Errorf("stats are %+v, %t", stats, ok)
	}
	if n := interfaces("/proc", p.Pid, make([]byte, 4096)); n == nil {
		t.Log("no network interface but loopback here")
	}
	if u, _, err := s.Node(); err != nil || u.CPU == 0 || u.WorkingSet == 0 {
		t.Errorf("node uses %+v, %v", u, err)
	}
}

// many returns an inventory of n containers that all are the root cgroup.
func many(n int) Fixed {
	var f Fixed
	for i := range n {
		f = append(f, Container{ID: fmt.Sprintf("id%02d", i), Namespace: "ns", Pod: fmt.Sprintf("pod%02d", i), Name: "c", Image: "image", CgroupPath: "/."})
	}
	return f
}

func BenchmarkSample(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			s, err := NewSampler(Config{})
			if err != nil {
				b.Skip(err)
			}
			defer s.Close()
			inv := many(n)
			var buf []Sample
			b.ReportAllocs()
			for b.Loop() {
				buf = s.Sample(buf[:0], inv)
			}
			if len(buf) != n {
				b.Fatalf("%d samples of %d", len(buf), n)
			}
		})
	}
}

func BenchmarkGather(b *testing.B) {
	e, err := NewExporter(Config{}, "n", "0", many(50), nil)
	if err != nil {
		b.Skip(err)
	}
	defer e.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
