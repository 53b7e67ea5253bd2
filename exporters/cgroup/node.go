package cgroup

import (
	"bytes"
	"fmt"
	"path/filepath"
	"time"
)

// userHz is the unit of CPU times in /proc, fixed by the kernel's ABI.
const userHz = 100

// Node returns the whole machine's usage: CPU time that was not idle, memory
// that is not free, as the kubelet reports its root cgroup. The root cgroup
// itself has no memory.current in version 2 and is not resource-limited in
// version 1, so /proc is the source in both.
func (s *Sampler) Node() (Usage, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var u Usage
	if s.tree.version == V1 {
		b, err := readFile(s.tree.file("cpuacct", "/", "cpuacct.usage"), s.buf[:])
		if err != nil {
			return u, now, fmt.Errorf("cannot read the machine's CPU time: %w", err)
		}
		u.CPU, _ = parseUint(b)
	} else {
		b, err := readFile(filepath.Join(s.proc, "stat"), s.buf[:])
		if err != nil {
			return u, now, fmt.Errorf("cannot read the machine's CPU time: %w", err)
		}
		u.CPU = busyTicks(b) * (uint64(time.Second) / userHz)
	}
	b, err := readFile(filepath.Join(s.proc, "meminfo"), s.buf[:])
	if err != nil {
		return u, now, fmt.Errorf("cannot read the machine's memory: %w", err)
	}
	total, free := meminfo(b, "MemTotal"), meminfo(b, "MemFree")
	u.Memory = saturatingSub(total, free)
	u.WorkingSet = saturatingSub(u.Memory, meminfo(b, "Inactive(file)"))
	return u, now, nil
}

// busyTicks sums the first line of /proc/stat without idle and iowait. guest
// times are contained in user and nice already.
func busyTicks(b []byte) uint64 {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[:i]
	}
	b = bytes.TrimPrefix(b, []byte("cpu"))
	var busy uint64
	for i := 0; i < 8; i++ {
		b = bytes.TrimLeft(b, " ")
		v, ok := parseUint(b)
		if !ok {
			break
		}
		if i != 3 && i != 4 {
			busy += v
		}
		j := bytes.IndexByte(b, ' ')
		if j < 0 {
			break
		}
		b = b[j:]
	}
	return busy
}

// meminfo returns a field of /proc/meminfo in bytes.
func meminfo(b []byte, key string) uint64 {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) > len(key) && line[len(key)] == ':' && string(line[:len(key)]) == key {
			v, _ := parseUint(line[len(key)+1:])
			return v * 1024
		}
	}
	return 0
}
