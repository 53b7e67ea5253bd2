package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/node/podspec"
)

// Objects reads the API objects volumes are made from. Errors are the API's.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// Token issues a token of the pod's service account, bound to the pod.
	Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (token string, expires time.Time, err error)
}

// ErrUnsupported is the kind of volume this node cannot provide.
var ErrUnsupported = errors.New("this kind of volume is not supported yet")

// Mounted is a volume that is ready to be mounted into containers.
type Mounted struct {
	Path     string
	ReadOnly bool
}

// Manager makes and removes volumes. It is safe for concurrent use by
// different pods; calls for one pod must not overlap.
type Manager struct {
	dir     string
	objects Objects
	now     func() time.Time

	mu     sync.Mutex
	tokens map[tokenKey]issued // guarded by mu
}

// New returns a manager of the pods' directories below dir.
func New(dir string, objects Objects) *Manager {
	return &Manager{dir: dir, objects: objects, now: time.Now, tokens: map[tokenKey]issued{}}
}

// PodDir returns the pod's directory.
func (m *Manager) PodDir(uid types.UID) string { return filepath.Join(m.dir, string(uid)) }

// Request is what volumes are made for.
type Request struct {
	Pod         *corev1.Pod
	Addresses   podspec.Addresses
	Allocatable corev1.ResourceList
}

// Error says which volume of a pod could not be made.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// SetUp makes the pod's volumes, or brings them up to date when they exist. It
// returns when it should be called again because a token nears its end; zero
// is never. Its errors are *Error.
func (m *Manager) SetUp(ctx context.Context, r Request) (next time.Time, err error) {
	if err := os.MkdirAll(filepath.Join(m.PodDir(r.Pod.UID), "volumes"), 0o750); err != nil {
		return time.Time{}, fmt.Errorf("cannot create the pod's directory: %w", err)
	}
	for i := range r.Pod.Spec.Volumes {
		v := &r.Pod.Spec.Volumes[i]
		renew, err := m.setUp(ctx, r, v)
		if err != nil {
			return time.Time{}, &Error{v.Name, err}
		}
		if !renew.IsZero() && (next.IsZero() || renew.Before(next)) {
			next = renew
		}
	}
	return next, nil
}

func (m *Manager) setUp(ctx context.Context, r Request, v *corev1.Volume) (time.Time, error) {
	switch {
	case v.EmptyDir != nil:
		return time.Time{}, m.emptyDir(r.Pod, v)
	case v.HostPath != nil:
		return time.Time{}, checkHostPath(v.HostPath)
	case v.ConfigMap != nil, v.Secret != nil, v.Projected != nil, v.DownwardAPI != nil:
		files, renew, err := m.payload(ctx, r, v)
		if err != nil {
			return time.Time{}, err
		}
		mounted := m.Path(r.Pod, v)
		if err := os.MkdirAll(mounted.Path, 0o755); err != nil {
			return time.Time{}, fmt.Errorf("cannot create volume directory: %w", err)
		}
		if v.ConfigMap == nil {
			if err := mountTmpfs(mounted.Path, 0); err != nil {
				return time.Time{}, err
			}
		}
		return renew, writeAtomically(mounted.Path, files, fsGroup(r.Pod))
	}
	return time.Time{}, unsupported(v)
}

// Path returns where a volume is on the node.
func (m *Manager) Path(pod *corev1.Pod, v *corev1.Volume) Mounted {
	at := func(plugin string) string {
		return filepath.Join(m.PodDir(pod.UID), "volumes", "kubernetes.io~"+plugin, v.Name)
	}
	switch {
	case v.HostPath != nil:
		return Mounted{Path: v.HostPath.Path}
	case v.ConfigMap != nil:
		return Mounted{at("configmap"), true}
	case v.Secret != nil:
		return Mounted{at("secret"), true}
	case v.Projected != nil:
		return Mounted{at("projected"), true}
	case v.DownwardAPI != nil:
		return Mounted{at("downward-api"), true}
	}
	return Mounted{Path: at("empty-dir")}
}

func unsupported(v *corev1.Volume) error {
	kind := "this source"
	s := &v.VolumeSource
	switch {
	case s.PersistentVolumeClaim != nil:
		kind = fmt.Sprintf("persistentVolumeClaim %q", s.PersistentVolumeClaim.ClaimName)
	case s.Ephemeral != nil:
		kind = "ephemeral"
	case s.NFS != nil:
		kind = "nfs"
	case s.CSI != nil:
		kind = fmt.Sprintf("csi driver %q", s.CSI.Driver)
	case s.ISCSI != nil:
		kind = "iscsi"
	case s.Image != nil:
		kind = "image"
	case s.GitRepo != nil:
		kind = "gitRepo"
	}
	return fmt.Errorf("%s: %w", kind, ErrUnsupported)
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

func (m *Manager) emptyDir(pod *corev1.Pod, v *corev1.Volume) error {
	path := m.Path(pod, v).Path
	if _, err := os.Stat(path); err == nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
		return nil // made before; the pod may have changed its mode since
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot create volume directory: %w", err)
	}
	if v.EmptyDir.Medium == corev1.StorageMediumDefault {
		// Under another name until it is as it must be: what has the name is
		// never touched again.
		fresh := filepath.Join(filepath.Dir(path), ".."+v.Name)
		if err := os.Mkdir(fresh, 0o777); err != nil && !os.IsExist(err) {
			return fmt.Errorf("cannot create volume directory: %w", err)
		}
		if err := openToAll(fresh, fsGroup(pod)); err != nil {
			return err
		}
		if err := os.Rename(fresh, path); err != nil {
			return fmt.Errorf("cannot create volume directory: %w", err)
		}
		return nil
	}
	if err := os.Mkdir(path, 0o777); err != nil && !os.IsExist(err) {
		return fmt.Errorf("cannot create volume directory: %w", err)
	}
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumMemory:
		if mounted, err := isMountPoint(path); mounted || err != nil {
			return err
		}
		var size int64
		if v.EmptyDir.SizeLimit != nil {
			size = v.EmptyDir.SizeLimit.Value()
		}
		if err := mountTmpfs(path, size); err != nil {
			return err
		}
	default:
		return fmt.Errorf("emptyDir medium %q: %w", v.EmptyDir.Medium, ErrUnsupported)
	}
	return openToAll(path, fsGroup(pod))
}

// openToAll lets every user write into an empty volume, whatever the umask.
func openToAll(path string, group *int64) error {
	if err := os.Chmod(path, 0o777); err != nil {
		return fmt.Errorf("cannot open the volume to all users: %w", err)
	}
	if group != nil {
		return own(path, *group, false)
	}
	return nil
}

// TearDown unmounts and deletes the pod's volumes. What its containers left as
// termination messages stays until Remove.
func (m *Manager) TearDown(uid types.UID) error {
	dir := m.PodDir(uid)
	m.forget(uid)
	if err := unmountBelow(dir); err != nil {
		return err
	}
	for _, sub := range []string{"volumes", "volume-subpaths", "etc-hosts"} {
		if err := os.RemoveAll(filepath.Join(dir, sub)); err != nil {
			return fmt.Errorf("cannot remove the pod's volumes: %w", err)
		}
	}
	return nil
}

// Remove deletes the pod's directory, after TearDown.
func (m *Manager) Remove(uid types.UID) error {
	if err := m.TearDown(uid); err != nil {
		return err
	}
	if err := os.RemoveAll(m.PodDir(uid)); err != nil {
		return fmt.Errorf("cannot remove the pod's directory: %w", err)
	}
	return nil
}

// Pods returns the UIDs that have a directory.
func (m *Manager) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods' directories: %w", err)
	}
	var out []types.UID
	for _, e := range entries {
		out = append(out, types.UID(e.Name()))
	}
	return out, nil
}
