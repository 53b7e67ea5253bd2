package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	hybrid := parse(`24 30 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/cpu rw shared:1 - cgroup cgroup rw,cpu
26 24 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
27 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`)
	if hybrid.V2() || hybrid.controller("cpu") != "/sys/fs/cgroup/cpu" || hybrid.controller("pids") != "" || hybrid.hybrid != "/sys/fs/cgroup/unified" {
		t.Errorf("hybrid: %+v", hybrid)
	}
	unified := parse("25 24 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
	if !unified.V2() || unified.unified != "/sys/fs/cgroup" {
		t.Errorf("unified: %+v", unified)
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[int64]int64{2: 1, 1024: 39, 262144: 10000, 0: 1} {
		if got := Weight(shares); got != want {
			t.Errorf("Weight(%d) is %d, want %d", shares, got, want)
		}
	}
}

// TestV2 writes into a directory that looks like a v2 mount.
func TestV2(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("cpu\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := &Tree{unified: root}
	if err := tree.delegate(root); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control")); err != nil || string(b) != "+memory" {
		t.Errorf("delegated %q, %v", b, err)
	}
	if err := os.Mkdir(filepath.Join(root, "pod"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.update2("/pod", Limits{Shares: 1024, Quota: 5000, Period: 100000, Memory: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpu.weight": "39", "cpu.max": "5000 100000", "memory.max": "1048576"} {
		if b, err := os.ReadFile(filepath.Join(root, "pod", file)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
}

// TestReal makes and removes a cgroup on this machine.
func TestReal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	tree, err := Open()
	if err != nil {
		t.Skip(err)
	}
	root := "/" + strings.ToLower(t.Name()) + filepath.Base(t.TempDir()) + filepath.Base(filepath.Dir(t.TempDir()))
	t.Cleanup(func() {
		if err := tree.Remove(root); err != nil {
			t.Error(err)
		}
	})
	if err := tree.Ensure(root+"/burstable/poda", Limits{Shares: 100, Quota: 50000, Period: 100000, Memory: 64 << 20}); err != nil {
		t.Skip("cannot make cgroups here: ", err)
	}
	kids, err := tree.Children(root + "/burstable")
	if err != nil || len(kids) != 1 || kids[0] != "poda" {
		t.Errorf("children %v, %v", kids, err)
	}
	if err := tree.Remove(root); err != nil {
		t.Fatal(err)
	}
	if kids, err := tree.Children(root); err != nil || len(kids) != 0 {
		t.Errorf("left %v, %v", kids, err)
	}
	if tree.Remove("/") == nil {
		t.Error("the root could be removed")
	}
}
