package cgroup

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Machine is what machine_* and cadvisor_version_info show. It does not
// change while the machine runs.
type Machine struct {
	Cores, PhysicalCores int
	Memory, Swap         uint64
	MachineID, BootID    string
	SystemUUID           string
	Kernel, OS           string
}

func readMachine(proc, sys string) Machine {
	m := Machine{Cores: runtime.NumCPU()}
	text := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile(filepath.Join(proc, "meminfo")); err == nil {
		m.Memory, m.Swap = meminfo(b, "MemTotal"), meminfo(b, "SwapTotal")
	}
	online, physical := countCores(text(filepath.Join(proc, "cpuinfo")))
	if online > 0 {
		m.Cores = online
	}
	m.PhysicalCores = max(physical, 1)
	m.MachineID = text("/etc/machine-id")
	m.BootID = text(filepath.Join(proc, "sys/kernel/random/boot_id"))
	m.SystemUUID = text(filepath.Join(sys, "class/dmi/id/product_uuid"))
	m.Kernel = text(filepath.Join(proc, "sys/kernel/osrelease"))
	for line := range strings.Lines(text("/etc/os-release")) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.OS = strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return m
}

// countCores counts processors and distinct (physical id, core id) pairs.
func countCores(cpuinfo string) (processors, cores int) {
	type core struct{ socket, core string }
	seen := map[core]bool{}
	var cur core
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			processors++
			cur = core{}
		case "physical id":
			cur.socket = value
		case "core id":
			cur.core = value
			seen[cur] = true
		}
	}
	if len(seen) == 0 {
		return processors, processors
	}
	return processors, len(seen)
}
