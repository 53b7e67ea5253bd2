package cgroup

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Faults counts page faults.
type Faults struct{ Minor, Major uint64 }

// Device is the block I/O of a cgroup on one device.
type Device struct {
	Major, Minor            uint64
	ReadBytes, WrittenBytes uint64
	Reads, Writes           uint64
}

// Stats is everything the kernel counts for one cgroup. Limits are unlimited
// (the greatest uint64) where there is none; CPU times are nanoseconds.
type Stats struct {
	Usage
	User, System uint64

	Periods, Throttled, ThrottledTime uint64
	CPUPeriod, CPUQuota               uint64 // microseconds
	CPUShares                         uint64

	RSS, Cache, Swap, Mapped   uint64
	MaxUsage, Failures         uint64
	Own, Hierarchy             Faults
	MemoryLimit, SwapLimit     uint64
	MemoryReservation          uint64
	OOMKills                   uint64
	Processes, Threads         uint64
	MaxThreads                 uint64
	Devices                    []Device
	Created                    time.Time
	hasFaultsOfItsOwn, hasSwap bool
}

// statsReader reads Stats; it belongs to one goroutine.
type statsReader struct {
	tree tree
	buf  []byte
}

// file returns a file's contents, valid until the next call, or nil.
func (r *statsReader) file(controller, path, name string) []byte {
	b, err := readFile(r.tree.file(controller, path, name), r.buf)
	if err != nil {
		return nil
	}
	r.buf = b[:cap(b)]
	return b
}

func (r *statsReader) number(controller, path, name string) (uint64, bool) {
	return parseUint(r.file(controller, path, name))
}

func (r *statsReader) numberOr(controller, path, name string) uint64 {
	v, _ := r.number(controller, path, name)
	return v
}

// read returns false when the cgroup is not there (any more).
func (r *statsReader) read(path string) (Stats, bool) {
	info, err := os.Stat(r.tree.file("memory", path, ""))
	if err != nil {
		return Stats{}, false
	}
	s := Stats{Created: info.ModTime(), CPUQuota: unlimited, MemoryLimit: unlimited, SwapLimit: unlimited, MaxThreads: unlimited}
	if r.tree.version == V2 {
		r.readV2(path, &s)
	} else {
		r.readV1(path, &s)
	}
	s.Processes = uint64(bytes.Count(r.file("memory", path, "cgroup.procs"), []byte{'\n'}))
	return s, true
}

func (r *statsReader) readV1(path string, s *Stats) {
	s.CPU = r.numberOr("cpuacct", path, "cpuacct.usage")
	if user, ok := r.number("cpuacct", path, "cpuacct.usage_user"); ok {
		s.User, s.System = user, r.numberOr("cpuacct", path, "cpuacct.usage_sys")
	} else if b := r.file("cpuacct", path, "cpuacct.stat"); b != nil {
		tick := uint64(time.Second) / userHz
		s.User, s.System = fieldOr(b, "user")*tick, fieldOr(b, "system")*tick
	}
	if b := r.file("cpu", path, "cpu.stat"); b != nil {
		s.Periods, s.Throttled, s.ThrottledTime = fieldOr(b, "nr_periods"), fieldOr(b, "nr_throttled"), fieldOr(b, "throttled_time")
	}
	s.CPUPeriod = r.numberOr("cpu", path, "cpu.cfs_period_us")
	if q, ok := r.number("cpu", path, "cpu.cfs_quota_us"); ok {
		s.CPUQuota = q
	}
	s.CPUShares = r.numberOr("cpu", path, "cpu.shares")

	s.Memory = r.numberOr("memory", path, "memory.usage_in_bytes")
	if b := r.file("memory", path, "memory.stat"); b != nil {
		s.WorkingSet = saturatingSub(s.Memory, fieldOr(b, "total_inactive_file"))
		s.RSS, s.Cache = fieldOr(b, "total_rss"), fieldOr(b, "total_cache")
		s.Swap, s.hasSwap = field(b, "total_swap")
		s.Mapped = fieldOr(b, "total_mapped_file")
		s.Own = Faults{Minor: fieldOr(b, "pgfault"), Major: fieldOr(b, "pgmajfault")}
		s.Hierarchy = Faults{Minor: fieldOr(b, "total_pgfault"), Major: fieldOr(b, "total_pgmajfault")}
		s.hasFaultsOfItsOwn = true
	}
	s.MaxUsage = r.numberOr("memory", path, "memory.max_usage_in_bytes")
	s.Failures = r.numberOr("memory", path, "memory.failcnt")
	s.MemoryLimit = v1Limit(r.number("memory", path, "memory.limit_in_bytes"))
	s.SwapLimit = v1Limit(r.number("memory", path, "memory.memsw.limit_in_bytes"))
	if v := v1Limit(r.number("memory", path, "memory.soft_limit_in_bytes")); v != unlimited {
		s.MemoryReservation = v
	}
	s.OOMKills = fieldOr(r.file("memory", path, "memory.oom_control"), "oom_kill")

	s.Threads = r.numberOr("pids", path, "pids.current")
	if v, ok := r.number("pids", path, "pids.max"); ok {
		s.MaxThreads = v
	}
	bytesFile := r.file("blkio", path, "blkio.throttle.io_service_bytes_recursive")
	s.Devices = blkio(s.Devices, bytesFile, func(d *Device, op string, v uint64) {
		switch op {
		case "Read":
			d.ReadBytes = v
		case "Write":
			d.WrittenBytes = v
		}
	})
	s.Devices = blkio(s.Devices, r.file("blkio", path, "blkio.throttle.io_serviced_recursive"), func(d *Device, op string, v uint64) {
		switch op {
		case "Read":
			d.Reads = v
		case "Write":
			d.Writes = v
		}
	})
}

// v1Limit maps the page-aligned maximum, version 1's "no limit", to unlimited.
func v1Limit(v uint64, ok bool) uint64 {
	const none = uint64(1) << 62
	if !ok || v >= none {
		return unlimited
	}
	return v
}

func (r *statsReader) readV2(path string, s *Stats) {
	if b := r.file("", path, "cpu.stat"); b != nil {
		s.CPU, s.User, s.System = fieldOr(b, "usage_usec")*1000, fieldOr(b, "user_usec")*1000, fieldOr(b, "system_usec")*1000
		s.Periods, s.Throttled, s.ThrottledTime = fieldOr(b, "nr_periods"), fieldOr(b, "nr_throttled"), fieldOr(b, "throttled_usec")*1000
	}
	if b := r.file("", path, "cpu.max"); b != nil {
		if v, ok := parseUint(b); ok {
			s.CPUQuota = v
		}
		if i := bytes.IndexByte(b, ' '); i >= 0 {
			s.CPUPeriod, _ = parseUint(b[i+1:])
		}
	}
	if w, ok := r.number("", path, "cpu.weight"); ok && w > 0 {
		s.CPUShares = sharesOfWeight(w)
	}
	s.Memory = r.numberOr("", path, "memory.current")
	if b := r.file("", path, "memory.stat"); b != nil {
		s.WorkingSet = saturatingSub(s.Memory, fieldOr(b, "inactive_file"))
		s.RSS, s.Cache, s.Mapped = fieldOr(b, "anon"), fieldOr(b, "file"), fieldOr(b, "file_mapped")
		s.Hierarchy = Faults{Minor: fieldOr(b, "pgfault"), Major: fieldOr(b, "pgmajfault")}
	}
	s.Swap, s.hasSwap = r.number("", path, "memory.swap.current")
	s.MaxUsage = r.numberOr("", path, "memory.peak")
	if v, ok := r.number("", path, "memory.max"); ok {
		s.MemoryLimit = v
	}
	if v, ok := r.number("", path, "memory.swap.max"); ok {
		s.SwapLimit = v
	}
	s.MemoryReservation = r.numberOr("", path, "memory.low")
	if b := r.file("", path, "memory.events"); b != nil {
		s.Failures, s.OOMKills = fieldOr(b, "max"), fieldOr(b, "oom_kill")
	}
	s.Threads = r.numberOr("", path, "pids.current")
	if v, ok := r.number("", path, "pids.max"); ok {
		s.MaxThreads = v
	}
	s.Devices = ioStat(r.file("", path, "io.stat"))
}

// sharesOfWeight shows a weight as shares the way cAdvisor does, cpu.shares
// (2…262144) being spread evenly over cpu.weight (1…10000).
func sharesOfWeight(w uint64) uint64 { return 2 + (w-1)*262142/9999 }

// blkio adds the lines "major:minor operation value" of a version 1 file.
func blkio(devices []Device, b []byte, set func(*Device, string, uint64)) []Device {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue // the total over all devices
		}
		major, minor, ok := deviceNumber(f[0])
		v, err := strconv.ParseUint(f[2], 10, 64)
		if !ok || err != nil {
			continue
		}
		var d *Device
		for i := range devices {
			if devices[i].Major == major && devices[i].Minor == minor {
				d = &devices[i]
			}
		}
		if d == nil {
			devices = append(devices, Device{Major: major, Minor: minor})
			d = &devices[len(devices)-1]
		}
		set(d, f[1], v)
	}
	return devices
}

// ioStat reads version 2's "major:minor rbytes=… wbytes=… rios=… wios=…".
func ioStat(b []byte) []Device {
	var devices []Device
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		major, minor, ok := deviceNumber(f[0])
		if !ok {
			continue
		}
		d := Device{Major: major, Minor: minor}
		for _, kv := range f[1:] {
			key, value, _ := strings.Cut(kv, "=")
			v, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "rbytes":
				d.ReadBytes = v
			case "wbytes":
				d.WrittenBytes = v
			case "rios":
				d.Reads = v
			case "wios":
				d.Writes = v
			}
		}
		devices = append(devices, d)
	}
	return devices
}

func deviceNumber(s string) (major, minor uint64, ok bool) {
	a, b, found := strings.Cut(s, ":")
	major, err1 := strconv.ParseUint(a, 10, 64)
	minor, err2 := strconv.ParseUint(b, 10, 64)
	return major, minor, found && err1 == nil && err2 == nil
}

// deviceName resolves a block device's number to its path, as cAdvisor does.
func deviceName(sys string, d Device) string {
	number := strconv.FormatUint(d.Major, 10) + ":" + strconv.FormatUint(d.Minor, 10)
	target, err := os.Readlink(filepath.Join(sys, "dev/block", number))
	if err != nil {
		return number
	}
	return "/dev/" + filepath.Base(target)
}
