package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"binnacle.io/core/node/cgroup"
	"binnacle.io/core/node/containerd"
	"binnacle.io/core/node/runtime"
	"binnacle.io/core/node/volume"
	"binnacle.io/core/telemetry"
)

// Down removes from the machine all that the node made run: pods, shims, the
// bundled containerd, volumes, mounts and cgroups. Images and the data of the
// cluster stay. The agent must not be running.
func Down(ctx context.Context, cfg Config, tel *telemetry.Component) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	var errs []error
	if err := removePods(ctx, cfg, tel); err != nil {
		errs = append(errs, err)
	}
	if cfg.RuntimeEndpoint == "" {
		errs = append(errs, containerd.Stop(ctx, cfg.containerd(), tel))
	}
	volumes := volume.New(cfg.podsDir(), nil)
	uids, err := volumes.Pods()
	errs = append(errs, err)
	for _, uid := range uids {
		errs = append(errs, removeLogs(cfg, uid), volumes.Remove(uid))
	}
	errs = append(errs, unmountRuntime(cfg), removeLogLinks(cfg))
	if cfg.RuntimeEndpoint == "" {
		errs = append(errs, os.RemoveAll(filepath.Join(cfg.RunDir, "containerd")), os.RemoveAll(filepath.Join(cfg.RunDir, "s")))
	}
	if tree, err := cgroup.Open(); err == nil {
		errs = append(errs, tree.Remove(cfg.CgroupRoot))
	}
	return errors.Join(errs...)
}

// removePods starts the runtime if need be and removes every sandbox that is a
// pod's.
func removePods(ctx context.Context, cfg Config, tel *telemetry.Component) error {
	if cfg.RuntimeEndpoint == "" {
		if _, err := os.Stat(cfg.containerd().Socket()); errors.Is(err, os.ErrNotExist) {
			if _, err := os.Stat(filepath.Join(cfg.DataDir, "containerd", "io.containerd.metadata.v1.bolt")); errors.Is(err, os.ErrNotExist) {
				return nil // it never ran
			}
		}
		s := containerd.New(cfg.containerd(), tel)
		sctx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.Run(sctx) }()
		defer func() {
			stop()
			<-done
		}()
		select {
		case <-s.Ready():
		case err := <-done:
			done <- nil
			return err
		case <-ctx.Done():
			return fmt.Errorf("cannot remove pods: containerd did not come up: %w", ctx.Err())
		}
	}
	cri, err := runtime.Dial(cfg.Socket(), tel)
	if err != nil {
		return err
	}
	defer cri.Close()
	boxes, _, err := cri.Observe(ctx, "")
	if err != nil {
		return fmt.Errorf("cannot find the pods to remove: %w", err)
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, b := range boxes {
		g.Go(func() error {
			// Stopping ends the processes before it asks the network to
			// forget the pod. Where the network is gone already that fails;
			// the next agent then removes what is only a record.
			if err := cri.StopSandbox(ctx, b.ID); err != nil && !runtime.IsNotFound(err) {
				tel.Log.Warn("cannot stop sandbox cleanly", "sandbox", b.ID, "error", err)
				return nil
			}
			if err := cri.RemoveSandbox(ctx, b.ID); err != nil && !runtime.IsNotFound(err) {
				return err
			}
			return removeLogs(cfg, b.Pod.UID)
		})
	}
	return g.Wait()
}

// unmountRuntime detaches what containerd left mounted below its directories.
func unmountRuntime(cfg Config) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("cannot read mounts: %w", err)
	}
	var errs []error
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		f := strings.Fields(lines[i])
		if len(f) < 5 {
			continue
		}
		for _, dir := range []string{cfg.RunDir, cfg.DataDir} {
			if strings.HasPrefix(f[4], dir+"/") {
				if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
					errs = append(errs, fmt.Errorf("cannot unmount %q: %w", f[4], err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func removeLogLinks(cfg Config) error {
	links, err := filepath.Glob(filepath.Join(cfg.containerLogsDir(), "*.log"))
	if err != nil {
		return fmt.Errorf("cannot list log links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && strings.HasPrefix(target, cfg.podLogsDir()+"/") {
			errs = append(errs, os.Remove(l))
		}
	}
	return errors.Join(errs...)
}
