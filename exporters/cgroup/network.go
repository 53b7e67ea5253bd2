package cgroup

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Interface is the traffic of one network interface.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// interfaces reads the network interfaces that a process sees, loopback left
// out, as cAdvisor leaves it out.
func interfaces(proc string, pid int, buf []byte) []Interface {
	b, err := readFile(filepath.Join(proc, strconv.Itoa(pid), "net/dev"), buf)
	if err != nil {
		return nil
	}
	var list []Interface
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if !ok || name == "lo" {
			continue
		}
		var v [16]uint64
		f := strings.Fields(rest)
		if len(f) < len(v) {
			continue
		}
		for i := range v {
			v[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		list = append(list, Interface{
			Name: name, RxBytes: v[0], RxPackets: v[1], RxErrors: v[2], RxDropped: v[3],
			TxBytes: v[8], TxPackets: v[9], TxErrors: v[10], TxDropped: v[11],
		})
	}
	return list
}
