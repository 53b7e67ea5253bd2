package cgroup

import (
	"bytes"
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// unlimited is what a controller shows for "no limit".
const unlimited = math.MaxUint64

// readAt reads the whole of a small kernel file from its start into buf. Such
// files are produced at the first read, so one pread is a consistent view.
func readAt(fd int, buf []byte) ([]byte, error) {
	for {
		n, err := unix.Pread(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

func openFile(name string) (int, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return fd, err
	}
}

// readFile opens, reads and closes one small kernel file.
func readFile(name string, buf []byte) ([]byte, error) {
	fd, err := openFile(name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// Long files (cgroup.procs, io.stat of many disks) come in pieces.
	out := buf[:0]
	for {
		if len(out) == cap(out) {
			out = append(out, 0)[:len(out)]
		}
		n, err := unix.Read(fd, out[len(out):cap(out)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
		out = out[:len(out)+n]
	}
}

// parseUint reads the decimal number that b starts with; "max" is unlimited
// and negative numbers are too (v1 writes -1 for no quota).
func parseUint(b []byte) (uint64, bool) {
	b = bytes.TrimLeft(b, " \t")
	if bytes.HasPrefix(b, []byte("max")) || (len(b) > 1 && b[0] == '-') {
		return unlimited, true
	}
	var v uint64
	digits := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		v = v*10 + uint64(c-'0')
		digits++
	}
	return v, digits > 0
}

// field returns the value of "key value" lines. key must not be a prefix of
// another key followed by a space, which no kernel file has.
func field(b []byte, key string) (uint64, bool) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) > len(key) && line[len(key)] == ' ' && string(line[:len(key)]) == key {
			return parseUint(line[len(key)+1:])
		}
	}
	return 0, false
}

// fieldOr is field with zero for what is missing.
func fieldOr(b []byte, key string) uint64 {
	v, _ := field(b, key)
	return v
}
