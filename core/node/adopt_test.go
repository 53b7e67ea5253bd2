package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/node/nodetest"
	"binnacle.io/core/node/runtime"
	"binnacle.io/core/telemetry"
)

// TestAdoption restarts the agent, kills containerd, and lets a pod go while
// no agent looks. What should run must not notice.
func TestAdoption(t *testing.T) {
	s := apitest.Start(t)
	n := nodetest.Start(t, s.Client, nil, nil)
	create(t, s.Client, pod("stays", "sleep"))
	create(t, s.Client, pod("goes", "sleep"))
	create(t, s.Client, pod("dies", "sleep"))
	stays := await(t, s.Client, "stays", "ready", ready)
	await(t, s.Client, "goes", "ready", ready)
	dies := await(t, s.Client, "dies", "ready", ready)
	id := func(p *corev1.Pod) string {
		return strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
	}
	pid := pidOf(t, id(stays))

	n.Stop(t)
	if syscall.Kill(pid, 0) != nil {
		t.Fatal("stopping the agent killed a pod")
	}
	zero := int64(0)
	if err := client.Delete[*corev1.Pod](context.Background(), s.Client, "default", "goes", client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pidOf(t, id(dies)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.Run(t)
	if got := imports(t, n)["present"]; got != 2 {
		t.Errorf("%d image archives were known, want 2", got)
	}
	await(t, s.Client, "dies", "restarted", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 1 && ready(p) })
	eventually(t, "the orphan to go", func() bool { return !strings.Contains(sandboxes(t, n), "goes") })

	b, err := os.ReadFile(filepath.Join(n.Config.RunDir, "containerd", "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	create(t, s.Client, pod("late", "sleep"))
	await(t, s.Client, "late", "ready", ready)

	p, err := client.Get[*corev1.Pod](context.Background(), s.Client, "default", "stays")
	if err != nil {
		t.Fatal(err)
	}
	if id(p) != id(stays) || p.Status.ContainerStatuses[0].RestartCount != 0 || !ready(p) || syscall.Kill(pid, 0) != nil {
		t.Errorf("the pod did not stay:\n%s", describe(p))
	}
	for _, name := range []string{"stays", "dies", "late"} {
		remove(t, s.Client, name)
	}
	eventually(t, "all sandboxes to go", func() bool { return sandboxes(t, n) == "" })
}

func sandboxes(t *testing.T, n *nodetest.Node) string {
	t.Helper()
	cri, err := runtime.Dial(n.Config.Socket(), telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer cri.Close()
	boxes, _, err := cri.Observe(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	s := ""
	for _, b := range boxes {
		s += b.Pod.Name + " "
	}
	return s
}

// pidOf finds the container's process by its cgroup.
func pidOf(t *testing.T, container string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), container) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal(fmt.Sprintf("no process of container %s", container))
	return 0
}

// imports counts image archives by what became of them.
func imports(t *testing.T, n *nodetest.Node) map[string]uint64 {
	t.Helper()
	families, err := n.Tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "binnacle_node_image_import_duration_seconds" {
			continue
		}
		for _, m := range f.Metric {
			out[m.Label[0].GetValue()] = m.Histogram.GetSampleCount()
		}
	}
	return out
}

// TestRuntimeDies kills containerd while pods start: all get ready, and
// nothing of the interrupted attempts is left when they are gone.
func TestRuntimeDies(t *testing.T) {
	s := apitest.Start(t)
	n := nodetest.Start(t, s.Client, nil, nil)
	const pods = 6
	for i := range pods {
		create(t, s.Client, pod(fmt.Sprint("p", i), "sleep"))
	}
	eventually(t, "the first sandbox", func() bool { return sandboxes(t, n) != "" })
	b, err := os.ReadFile(filepath.Join(n.Config.RunDir, "containerd", "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Fatalf("cannot kill containerd %q: %v", b, err)
	}
	for i := range pods {
		await(t, s.Client, fmt.Sprint("p", i), "ready", ready)
	}
	for i := range pods {
		remove(t, s.Client, fmt.Sprint("p", i))
	}
	eventually(t, "all sandboxes to go", func() bool { return sandboxes(t, n) == "" })
}
