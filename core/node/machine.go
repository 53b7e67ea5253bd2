package node

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"golang.org/x/sys/unix"
)

// machine is what the node has.
type machine struct {
	capacity, allocatable corev1.ResourceList
	memory                int64 // bytes
	info                  corev1.NodeSystemInfo
}

func inspect(cfg Config) (*machine, error) {
	m := &machine{}
	mem, err := memTotal()
	if err != nil {
		return nil, err
	}
	m.memory = mem
	var disk syscall.Statfs_t
	if err := syscall.Statfs(cfg.DataDir, &disk); err != nil {
		return nil, fmt.Errorf("cannot measure the file system of %q: %w", cfg.DataDir, err)
	}
	m.capacity = corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(mem, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(disk.Blocks)*disk.Bsize, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(cfg.MaxPods), resource.DecimalSI),
		"hugepages-2Mi":                 *resource.NewQuantity(0, resource.DecimalSI),
		"hugepages-1Gi":                 *resource.NewQuantity(0, resource.DecimalSI),
	}
	m.allocatable = corev1.ResourceList{}
	for n, q := range m.capacity {
		left := q.DeepCopy()
		if r, ok := cfg.Reserved[n]; ok {
			left.Sub(r)
			if left.Sign() < 0 {
				return nil, fmt.Errorf("cannot reserve %s of %s: the node has %s", r.String(), n, q.String())
			}
		}
		m.allocatable[n] = left
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("cannot identify the kernel: %w", err)
	}
	m.info = corev1.NodeSystemInfo{
		MachineID:       readTrimmed("/etc/machine-id"),
		SystemUUID:      strings.ToLower(readTrimmed("/sys/class/dmi/id/product_uuid")),
		BootID:          readTrimmed("/proc/sys/kernel/random/boot_id"),
		KernelVersion:   unix.ByteSliceToString(u.Release[:]),
		OSImage:         osImage(),
		OperatingSystem: goruntime.GOOS,
		Architecture:    goruntime.GOARCH,
		KubeletVersion:  cfg.Version,
		// Deprecated upstream and empty there.
		KubeProxyVersion: "",
	}
	if m.info.SystemUUID == "" {
		m.info.SystemUUID = m.info.MachineID
	}
	return m, nil
}

func readTrimmed(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "" // not every machine has it
	}
	return strings.TrimSpace(string(b))
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		if v, ok := strings.CutPrefix(s.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}

// memTotal returns the machine's memory in bytes.
func memTotal() (int64, error) {
	m, err := memInfo()
	if err != nil {
		return 0, err
	}
	return m["MemTotal"], nil
}

// memInfo reads /proc/meminfo in bytes.
func memInfo() (map[string]int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("cannot measure memory: %w", err)
	}
	out := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("cannot measure memory: %w", err)
		}
		out[strings.TrimSuffix(f[0], ":")] = n << 10
	}
	return out, nil
}
