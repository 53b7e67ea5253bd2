package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/node"
	"binnacle.io/core/node/nodetest"
	"binnacle.io/core/telemetry"
)

// TestDown leaves nothing of a node with a running pod, even when the pod's
// network cannot be asked any more.
func TestDown(t *testing.T) {
	s := apitest.Start(t)
	n := nodetest.Start(t, s.Client, nil, nil)
	foreign := filepath.Join(n.Config.LogDir, "pods", "default_other_1234")
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	p := pod("runs", "sleep")
	p.Spec.HostNetwork = false
	create(t, s.Client, p)
	p = await(t, s.Client, "runs", "ready", ready)
	create(t, s.Client, pod("host", "sleep"))
	await(t, s.Client, "host", "ready", ready)
	pid := pidOf(t, strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://"))
	n.Stop(t)
	if err := os.Remove(filepath.Join(n.Config.BinDir, "nodetest-cni")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := node.Down(ctx, n.Config, telemetry.Discard()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process to end", func() bool { _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); return os.IsNotExist(err) })
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), n.Config.RunDir) || strings.Contains(string(mounts), n.Config.DataDir) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
	for _, glob := range []string{"/sys/fs/cgroup" + n.Config.CgroupRoot, "/sys/fs/cgroup/*" + n.Config.CgroupRoot,
		filepath.Join(n.Config.DataDir, "pods", "*"), filepath.Join(n.Config.LogDir, "containers", "*")} {
		if left, err := filepath.Glob(glob); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("another agent's logs: %v", err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range procs {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), n.Config.RunDir) {
			t.Errorf("a process is left: %s", strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
}
