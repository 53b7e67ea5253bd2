package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processes resolves selectors as the shared tool has them, without cgroups.
func processes(selectors string) ([]int, error) {
	var pids []int
	for one := range strings.SplitSeq(selectors, ",") {
		_, selector, ok := strings.Cut(one, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not label=selector", one)
		}
		if name, ok := strings.CutPrefix(selector, "name:"); ok {
			found, err := named(name)
			if err != nil {
				return nil, err
			}
			pids = append(pids, found...)
			continue
		}
		for text := range strings.SplitSeq(selector, "+") {
			pid, err := strconv.Atoi(text)
			if err != nil {
				return nil, fmt.Errorf("%q: %q is not a PID", one, text)
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func named(program string) ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		first, _, _ := bytes.Cut(line, []byte{0})
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && filepath.Base(string(first)) == program {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("no process is named %s", program)
	}
	return pids, nil
}

// usage is the memory of processes, bytes.
type usage struct{ resident, peak int64 }

func memoryOf(pids []int) (usage, error) {
	var m usage
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return m, fmt.Errorf("cannot read the memory of process %d: %w", pid, err)
		}
		m.resident += statusField(status, "VmRSS:")
		m.peak += statusField(status, "VmHWM:")
	}
	return m, nil
}

// statusField reads a line of /proc/PID/status that is in kB.
func statusField(status []byte, name string) int64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

// resetPeak makes the high-water mark what is resident now.
func resetPeak(pids []int) error {
	for _, pid := range pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return fmt.Errorf("cannot reset the peak memory of process %d: %w", pid, err)
		}
	}
	return nil
}

// ownCPU is the CPU time this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
