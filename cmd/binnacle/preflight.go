package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// instance is this process' claim on its directories.
type instance struct{ locks []*os.File }

// claimAll takes the data directory, so that two processes never share state,
// and the run directory, so that one never takes another's sockets away.
func claimAll(c *Config) (*instance, error) {
	i := &instance{}
	for _, dir := range []struct{ path, what, setting string }{
		{c.DataDir, "data directory", "choose another with --data-dir"},
		{c.RunDir, "run directory", "choose another with runDir"},
	} {
		f, err := claim(dir.path, dir.what, dir.setting)
		if err != nil {
			i.release()
			return nil, err
		}
		i.locks = append(i.locks, f)
	}
	return i, nil
}

func claim(dir, what, advice string) (*os.File, error) {
	failed := func(err error) error { return fmt.Errorf("cannot use %s %s: %w; %s", what, dir, err, advice) }
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, failed(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, failed(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(f.Name()) // only for the message
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, failed(err)
		}
		return nil, fmt.Errorf("another binnacle (pid %s) uses %s %s: stop it, or %s", strings.TrimSpace(string(pid)), what, dir, advice)
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		f.Close()
		return nil, failed(err)
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func (i *instance) release() {
	for _, f := range i.locks {
		f.Close()
	}
}

// port is one that this process listens on.
type port struct {
	number        int
	address, what string
	setting       string
}

// listens are the ports this process will take.
func (c *Config) listens() []port {
	ports := []port{
		{c.Ports.API, "", "the API", "api"},
		{c.Ports.Observability, "127.0.0.1", "the UI and the Prometheus API", "observability"},
		{c.Ports.OTLPGRPC, "127.0.0.1", "OTLP over gRPC", "otlpGRPC"},
		{c.Ports.OTLPHTTP, "127.0.0.1", "OTLP over HTTP", "otlpHTTP"},
		{c.Ports.Controllers, "127.0.0.1", "the controllers' metrics", "controllers"},
		{c.Ports.Scheduler, "127.0.0.1", "the scheduler's metrics", "scheduler"},
	}
	if !c.agent {
		return ports
	}
	return append(ports,
		port{c.Ports.Kubelet, "", "the node agent", "kubelet"},
		port{c.Ports.ProxyMetrics, "127.0.0.1", "the service proxy's metrics", "proxyMetrics"},
		port{c.Ports.ProxyHealth, "", "the service proxy's health", "proxyHealth"},
	)
}

// preflight finds what would fail later, and says in one line what to do.
func preflight(c *Config) error {
	if c.agent {
		if err := preflightNode(c); err != nil {
			return err
		}
	}
	for _, p := range c.listens() {
		l, err := net.Listen("tcp", net.JoinHostPort(p.address, fmt.Sprint(p.number)))
		if err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("port %d, for %s, is taken: stop what listens there (ss -ltnp 'sport = :%d'), or set ports.%s", p.number, p.what, p.number, p.setting)
			}
			return fmt.Errorf("cannot listen on port %d for %s: %w", p.number, p.what, err)
		}
		l.Close()
	}
	return nil
}

// preflightNode checks what running pods here needs.
func preflightNode(c *Config) error {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: pods need namespaces, mounts and cgroups; use sudo")
	}
	if c.RuntimeEndpoint == "" {
		for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc", "binnacle-cni"} {
			if _, err := os.Stat(filepath.Join(c.BinDir, name)); err != nil {
				return fmt.Errorf("%s is missing in %s: run make build, or set binDir", name, c.BinDir)
			}
		}
	}
	return kernel()
}

// kernel checks the features pods and services cannot do without.
func kernel() error {
	fs, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return fmt.Errorf("cannot read the kernel's file systems: %w", err)
	}
	if !strings.Contains(string(fs), "\toverlay\n") {
		return errors.New("the kernel lacks overlayfs, on which container images are mounted: modprobe overlay")
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			return fmt.Errorf("the kernel lacks %s namespaces (CONFIG_NAMESPACES)", ns)
		}
	}
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("the kernel lacks nftables, which Services need: modprobe nf_tables (%w)", err)
	}
	unix.Close(s)
	v1, v2 := exists("/sys/fs/cgroup/cpu") && exists("/sys/fs/cgroup/memory"), exists("/sys/fs/cgroup/cgroup.controllers")
	if !v1 && !v2 {
		return errors.New("no cgroups are mounted at /sys/fs/cgroup: mount cgroup2 there")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
