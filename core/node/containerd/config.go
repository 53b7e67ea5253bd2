package containerd

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Config says where the bundled containerd lives.
type Config struct {
	// DataDir and RunDir are the agent's; containerd uses
	// <DataDir>/containerd and <RunDir>/containerd.
	DataDir, RunDir string
	// BinDir holds containerd, its shim, runc and the CNI plugin.
	BinDir string
	// SandboxImage is the image of pod sandboxes.
	SandboxImage string
	// CNIConfDir holds the CNI network configuration.
	CNIConfDir string
	// CertsDir holds per-registry configuration (hosts.toml).
	CertsDir string
	// ImageDirs are searched for image archives (*.tar) at start.
	ImageDirs []string
}

// Socket returns the path of the socket containerd listens on.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "containerd", "containerd.sock") }

func (c Config) root() string    { return filepath.Join(c.DataDir, "containerd") }
func (c Config) state() string   { return filepath.Join(c.RunDir, "containerd") }
func (c Config) file() string    { return filepath.Join(c.root(), "config.toml") }
func (c Config) logFile() string { return filepath.Join(c.root(), "containerd.log") }
func (c Config) pidFile() string { return filepath.Join(c.state(), "containerd.pid") }
func (c Config) binary() string  { return filepath.Join(c.BinDir, "containerd") }

// maxSocketDir is the longest directory containerd takes for shim sockets.
const maxSocketDir = 38

// disabled are plugins a node never uses; each costs start time or memory.
var disabled = []string{
	"io.containerd.differ.v1.erofs",
	"io.containerd.image-verifier.v1.bindir",
	"io.containerd.internal.v1.tracing",
	"io.containerd.tracing.processor.v1.otlp",
	"io.containerd.monitor.container.v1.restart",
	"io.containerd.monitor.task.v1.cgroups",
	"io.containerd.mount-handler.v1.erofs",
	"io.containerd.nri.v1.nri",
	"io.containerd.server.v1.debug",
	"io.containerd.server.v1.grpc-tcp",
	"io.containerd.server.v1.metrics",
	"io.containerd.snapshotter.v1.blockfile",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.erofs",
	"io.containerd.snapshotter.v1.zfs",
}

// render writes containerd's configuration file.
func (c Config) render() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("version = 4")
	p("root = %q", c.root())
	p("state = %q", c.state())
	if mayLowerOOMScore() {
		p("oom_score = -999")
	}
	p("imports = []")
	p("disabled_plugins = [")
	for _, d := range disabled {
		p("  %q,", d)
	}
	p("]")
	p("[debug]")
	p("  level = \"warn\"")
	p("[plugins.'io.containerd.server.v1.grpc']")
	p("  address = %q", c.Socket())
	p("[plugins.'io.containerd.server.v1.ttrpc']")
	p("  address = %q", c.Socket()+".ttrpc")
	if dir := filepath.Join(c.RunDir, "s"); len(dir) <= maxSocketDir {
		p("[plugins.'io.containerd.shim.v1.manager']")
		p("  socket_dir = %q", dir)
	}
	p("[plugins.'io.containerd.internal.v1.opt']")
	p("  path = %q", filepath.Join(c.root(), "opt"))
	p("[plugins.'io.containerd.grpc.v1.cri']")
	p("  stream_server_address = \"127.0.0.1\"")
	p("  stream_server_port = \"0\"")
	p("[plugins.'io.containerd.cri.v1.images']")
	p("  snapshotter = \"overlayfs\"")
	p("  [plugins.'io.containerd.cri.v1.images'.pinned_images]")
	p("    sandbox = %q", c.SandboxImage)
	p("  [plugins.'io.containerd.cri.v1.images'.registry]")
	p("    config_path = %q", c.CertsDir)
	p("[plugins.'io.containerd.transfer.v1.local']")
	p("  config_path = %q", c.CertsDir)
	p("[plugins.'io.containerd.cri.v1.runtime']")
	p("  disable_apparmor = true")
	p("  restrict_oom_score_adj = %t", !mayLowerOOMScore())
	p("  netns_mounts_under_state_dir = true")
	p("  enable_unprivileged_ports = true")
	p("  enable_unprivileged_icmp = true")
	p("  cdi_spec_dirs = []")
	p("  enable_criu = false")
	p("  [plugins.'io.containerd.cri.v1.runtime'.cni]")
	p("    bin_dirs = [%q]", c.BinDir)
	p("    conf_dir = %q", c.CNIConfDir)
	p("    max_conf_num = 1")
	p("    use_internal_loopback = true")
	p("  [plugins.'io.containerd.cri.v1.runtime'.containerd]")
	p("    default_runtime_name = \"runc\"")
	p("    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]")
	p("      runtime_type = \"io.containerd.runc.v2\"")
	p("      runtime_path = %q", filepath.Join(c.BinDir, "containerd-shim-runc-v2"))
	p("      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]")
	p("        BinaryName = %q", filepath.Join(c.BinDir, "runc"))
	p("        SystemdCgroup = false")
	return b.String()
}

// mayLowerOOMScore reports whether this process may make others less likely to
// be killed by the kernel when memory runs out: CAP_SYS_RESOURCE. Inside some
// virtual machines and containers even root may not.
func mayLowerOOMScore() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
