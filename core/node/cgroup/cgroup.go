package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Limits are what a cgroup grants; zero Quota or Memory is no limit.
type Limits struct {
	Shares        int64 // cpu.shares, 2 to 262144
	Quota, Period int64 // µs
	Memory        int64 // bytes
	Pids          int64
}

// Tree is the cgroup file system of this machine.
type Tree struct {
	// unified is the v2 mount with controllers, or empty.
	unified string
	// v1 maps each v1 hierarchy's mount point to its controllers.
	v1 map[string][]string
	// hybrid is a v2 mount beside v1 ones. It has no controllers, but the
	// runtime makes its cgroups there too.
	hybrid string
}

// Open finds the mounted hierarchies.
func Open() (*Tree, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot find the cgroup mounts: %w", err)
	}
	t := parse(string(b))
	if t.unified == "" && len(t.v1) == 0 {
		return nil, errors.New("cannot run pods: no cgroup controllers are mounted below /sys/fs/cgroup")
	}
	return t, nil
}

// parse reads mountinfo. A v2 mount beside v1 ones holds no controllers.
func parse(mountinfo string) *Tree {
	t := &Tree{v1: map[string][]string{}}
	var v2 string
	for line := range strings.Lines(mountinfo) {
		pre, post, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(pre), strings.Fields(post)
		if !ok || len(f) < 5 || len(g) < 3 || !strings.HasPrefix(f[4], "/sys/fs/cgroup") {
			continue
		}
		switch g[0] {
		case "cgroup":
			t.v1[f[4]] = strings.Split(g[2], ",")
		case "cgroup2":
			v2 = f[4]
		}
	}
	if len(t.v1) == 0 {
		t.unified = v2
	} else {
		t.hybrid = v2
	}
	return t
}

// V2 reports whether the machine uses the unified hierarchy.
func (t *Tree) V2() bool { return t.unified != "" }

// controller returns the mount point of a v1 controller.
func (t *Tree) controller(name string) string {
	for mount, cs := range t.v1 {
		if slices.Contains(cs, name) {
			return mount
		}
	}
	return ""
}

// Ensure creates the cgroup at path ("/kubepods/burstable") and sets its
// limits.
func (t *Tree) Ensure(path string, l Limits) error {
	if t.V2() {
		return t.ensure2(path, l)
	}
	for _, name := range []string{"cpu", "cpuacct", "memory", "pids"} {
		mount := t.controller(name)
		if mount == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(mount, path), 0o755); err != nil {
			return fmt.Errorf("cannot create cgroup %q: %w", path, err)
		}
	}
	return t.Update(path, l)
}

// Update sets the limits of an existing cgroup.
func (t *Tree) Update(path string, l Limits) error {
	if t.V2() {
		return t.update2(path, l)
	}
	var err error
	w := func(controller, file, value string) {
		mount := t.controller(controller)
		if mount != "" && err == nil {
			err = write(filepath.Join(mount, path, file), value)
		}
	}
	if l.Shares > 0 {
		w("cpu", "cpu.shares", strconv.FormatInt(l.Shares, 10))
	}
	if l.Quota > 0 {
		w("cpu", "cpu.cfs_period_us", strconv.FormatInt(l.Period, 10))
		w("cpu", "cpu.cfs_quota_us", strconv.FormatInt(l.Quota, 10))
	}
	if l.Memory > 0 {
		w("memory", "memory.limit_in_bytes", strconv.FormatInt(l.Memory, 10))
	}
	if l.Pids > 0 {
		w("pids", "pids.max", strconv.FormatInt(l.Pids, 10))
	}
	if err != nil {
		return fmt.Errorf("cannot set limits of cgroup %q: %w", path, err)
	}
	return nil
}

func (t *Tree) ensure2(path string, l Limits) error {
	dir := t.unified
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		// A child sees the controllers its parent delegates.
		if err := t.delegate(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cannot create cgroup %q: %w", path, err)
		}
	}
	if err := t.delegate(dir); err != nil {
		return err
	}
	return t.update2(path, l)
}

// delegate lets the children of a v2 cgroup use all of its controllers.
func (t *Tree) delegate(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot read cgroup controllers: %w", err)
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("cannot read cgroup controllers: %w", err)
	}
	var missing []string
	for _, c := range strings.Fields(string(b)) {
		if !slices.Contains(strings.Fields(string(on)), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return write(filepath.Join(dir, "cgroup.subtree_control"), strings.Join(missing, " "))
}

func (t *Tree) update2(path string, l Limits) error {
	var err error
	w := func(file, value string) {
		if err == nil {
			err = write(filepath.Join(t.unified, path, file), value)
		}
	}
	if l.Shares > 0 {
		w("cpu.weight", strconv.FormatInt(Weight(l.Shares), 10))
	}
	if l.Quota > 0 {
		w("cpu.max", fmt.Sprintf("%d %d", l.Quota, l.Period))
	}
	if l.Memory > 0 {
		w("memory.max", strconv.FormatInt(l.Memory, 10))
	}
	if l.Pids > 0 {
		w("pids.max", strconv.FormatInt(l.Pids, 10))
	}
	if err != nil {
		return fmt.Errorf("cannot set limits of cgroup %q: %w", path, err)
	}
	return nil
}

// Weight converts cpu.shares (2…262144) to cpu.weight (1…10000), KEP-2254.
func Weight(shares int64) int64 { return 1 + (min(max(shares, 2), 262144)-2)*9999/262142 }

// Removal waits for the kernel to let go of processes that have just died.
const (
	removeTries = 50
	removeWait  = 20 * time.Millisecond
)

// Remove deletes the cgroup at path with all below it, in every hierarchy.
func (t *Tree) Remove(path string) error {
	if strings.Trim(path, "/") == "" {
		return errors.New("cannot remove the root cgroup")
	}
	mounts := []string{t.unified}
	if !t.V2() {
		mounts = mounts[:0]
		if t.hybrid != "" {
			mounts = append(mounts, t.hybrid)
		}
		for m := range t.v1 {
			mounts = append(mounts, m)
		}
	}
	var errs []error
	for _, m := range mounts {
		errs = append(errs, removeAll(filepath.Join(m, path)))
	}
	return errors.Join(errs...)
}

func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read cgroup directory: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for try := 0; ; try++ {
		err := syscall.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || try == removeTries {
			return fmt.Errorf("cannot remove cgroup directory %q: %w", dir, err)
		}
		time.Sleep(removeWait)
	}
}

// Children returns the names of the cgroups directly below path.
func (t *Tree) Children(path string) ([]string, error) {
	mount := t.unified
	if !t.V2() {
		mount = t.controller("memory")
	}
	entries, err := os.ReadDir(filepath.Join(mount, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list cgroups: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func write(file, value string) error {
	return os.WriteFile(file, []byte(value), 0o644)
}
