package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/node/podspec"
)

// Mounts returns the mounts of a container: its volumes and /etc/hosts. env
// expands subPathExpr. SetUp must have succeeded before.
func (m *Manager) Mounts(pod *corev1.Pod, c *corev1.Container, env func(string) (string, bool)) ([]*cri.Mount, error) {
	var out []*cri.Mount
	for i := range c.VolumeMounts {
		vm := &c.VolumeMounts[i]
		j := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == vm.Name })
		if j < 0 {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", vm.Name, c.Name)
		}
		vol := m.Path(pod, &pod.Spec.Volumes[j])
		mount := &cri.Mount{
			ContainerPath: vm.MountPath, HostPath: vol.Path,
			Readonly: vm.ReadOnly || vol.ReadOnly, Propagation: propagation(vm.MountPropagation),
		}
		if !strings.HasPrefix(mount.ContainerPath, "/") {
			mount.ContainerPath = "/" + mount.ContainerPath
		}
		if p := vm.RecursiveReadOnly; p != nil && *p == corev1.RecursiveReadOnlyEnabled {
			mount.RecursiveReadOnly = true
		}
		sub := vm.SubPath
		if vm.SubPathExpr != "" {
			sub = podspec.Expand(vm.SubPathExpr, env)
			if strings.Contains(sub, "$(") {
				return nil, fmt.Errorf("failed to resolve subPathExpr %q of volume %q", vm.SubPathExpr, vm.Name)
			}
		}
		if sub != "" {
			host, err := m.subPath(pod, c, i, vol.Path, vm.Name, sub)
			if err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", vm.Name, c.Name, err)
			}
			mount.HostPath = host
		}
		out = append(out, mount)
	}
	return out, nil
}

func propagation(p *corev1.MountPropagationMode) cri.MountPropagation {
	switch {
	case p == nil:
	case *p == corev1.MountPropagationHostToContainer:
		return cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case *p == corev1.MountPropagationBidirectional:
		return cri.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return cri.MountPropagation_PROPAGATION_PRIVATE
}

// subPath binds a path inside a volume to a place of its own. The path is
// resolved by the kernel within the volume, so a link a container left there
// cannot lead out of it, now or while the mount is made.
func (m *Manager) subPath(pod *corev1.Pod, c *corev1.Container, index int, root, volume, sub string) (string, error) {
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("subPath %q must be relative and stay in the volume", sub)
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("cannot open volume: %w", err)
	}
	defer unix.Close(dir)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(dir, sub, how)
	if errors.Is(err, unix.ENOENT) {
		if err := makeSubPath(root, sub); err != nil {
			return "", err
		}
		fd, err = unix.Openat2(dir, sub, how)
	}
	if err != nil {
		return "", fmt.Errorf("cannot open subPath %q: %w", sub, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("cannot stat subPath %q: %w", sub, err)
	}
	target := filepath.Join(m.PodDir(pod.UID), "volume-subpaths", volume, c.Name, strconv.Itoa(index))
	if err := unmountBelow(target); err != nil {
		return "", err
	}
	if err := makeTarget(target, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return "", err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("cannot bind subPath %q: %w", sub, err)
	}
	return target, nil
}

// makeSubPath creates the missing directories of sub inside the volume.
func makeSubPath(root, sub string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("cannot open volume: %w", err)
	}
	defer r.Close()
	info, err := r.Stat(".")
	if err != nil {
		return fmt.Errorf("cannot stat volume: %w", err)
	}
	if err := r.MkdirAll(sub, 0o755); err != nil {
		return fmt.Errorf("cannot create subPath %q: %w", sub, err)
	}
	// The new directory is as open as the volume, whatever the umask.
	if err := r.Chmod(sub, info.Mode().Perm()); err != nil {
		return fmt.Errorf("cannot set mode of subPath %q: %w", sub, err)
	}
	return nil
}

func makeTarget(target string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("cannot create subPath target: %w", err)
	}
	if err := os.RemoveAll(target); err != nil {
		return fmt.Errorf("cannot clear subPath target: %w", err)
	}
	if dir {
		if err := os.Mkdir(target, 0o750); err != nil {
			return fmt.Errorf("cannot create subPath target: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("cannot create subPath target: %w", err)
	}
	return f.Close()
}

// MessageFile creates the file to be mounted at a container's termination
// message path and returns its place.
func (m *Manager) MessageFile(pod *corev1.Pod, container string, attempt uint32) (string, error) {
	p := m.messageFile(pod.UID, container, attempt)
	if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
		return "", fmt.Errorf("cannot create termination message directory: %w", err)
	}
	f, err := os.OpenFile(p, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return "", fmt.Errorf("cannot create termination message file: %w", err)
	}
	defer f.Close()
	if err := f.Chmod(0o666); err != nil { // any user of the container writes it
		return "", fmt.Errorf("cannot open termination message file to all: %w", err)
	}
	return p, nil
}

func (m *Manager) messageFile(uid types.UID, container string, attempt uint32) string {
	return filepath.Join(m.PodDir(uid), "containers", container, strconv.Itoa(int(attempt)))
}

// RemoveMessage deletes the termination message of a container that is gone.
func (m *Manager) RemoveMessage(uid types.UID, container string, attempt uint32) error {
	if err := os.Remove(m.messageFile(uid, container, attempt)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove termination message: %w", err)
	}
	return nil
}
