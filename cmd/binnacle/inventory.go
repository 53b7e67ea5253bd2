package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"binnacle.io/core/node"
	"binnacle.io/exporters/cgroup"
)

// inventory tells the cgroup exporter what runs on the node. The agent comes
// into being after the exporter.
type inventory struct {
	agent atomic.Pointer[node.Agent]

	mu   sync.Mutex
	pids map[string]int // sandbox → a process of it; guarded by mu
}

// Containers implements cgroup.Inventory.
func (i *inventory) Containers() []cgroup.Container {
	agent := i.agent.Load()
	if agent == nil {
		return nil
	}
	running := agent.Running()
	pids := i.sandboxPIDs(running)
	byPod := map[string]int{}
	for _, c := range running {
		if c.Sandbox && !c.HostNetwork {
			byPod[string(c.PodUID)] = pids[c.ID]
		}
	}
	out := make([]cgroup.Container, len(running))
	for j, c := range running {
		out[j] = cgroup.Container{
			ID: c.ID, Namespace: c.Namespace, Pod: c.Pod, PodUID: string(c.PodUID), Name: c.Name, Image: c.Image,
			Sandbox: c.Sandbox, SandboxPID: byPod[string(c.PodUID)], CgroupPath: c.Cgroup, StartedAt: c.StartedAt,
		}
	}
	return out
}

// sandboxPIDs finds a process of each sandbox, once: its cgroup never has
// another first one.
func (i *inventory) sandboxPIDs(running []node.RunningContainer) map[string]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	next := map[string]int{}
	for _, c := range running {
		if !c.Sandbox {
			continue
		}
		if pid := i.pids[c.ID]; pid != 0 {
			next[c.ID] = pid
		} else if pid := firstProcess(c.Cgroup); pid != 0 {
			next[c.ID] = pid
		}
	}
	i.pids = next
	return next
}

func firstProcess(path string) int {
	for _, hierarchy := range []string{"", "pids", "cpuacct", "memory"} {
		b, err := os.ReadFile(filepath.Join(cgroup.DefaultRoot, hierarchy, path, "cgroup.procs"))
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(b), "\n")
		if pid, err := strconv.Atoi(first); err == nil {
			return pid
		}
	}
	return 0
}
