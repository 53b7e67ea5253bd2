package podspec

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
)

// Start is everything that goes into one start of a container.
type Start struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Type      runtime.ContainerType
	Attempt   uint32
	Image     runtime.Image
	Addresses Addresses
	// Mounts as the volumes gave them.
	Mounts []*cri.Mount
	// Target is the ID of the container whose processes an ephemeral one
	// sees; empty is none.
	Target string
	// MessageFile is the host file mounted at the termination message path.
	MessageFile string
}

// Container returns the configuration of one container.
func Container(ctx context.Context, s Start, n *Node, look Lookup) (*cri.ContainerConfig, error) {
	c := s.Container
	if len(c.VolumeDevices) > 0 {
		return nil, configError("container %q: volumeDevices are not supported yet", c.Name)
	}
	env, err := environ(ctx, s.Pod, c, n, s.Addresses, look)
	if err != nil {
		return nil, err
	}
	sec, err := security(s.Pod, c, n, s.Image)
	if err != nil {
		return nil, err
	}
	if sec.NamespaceOptions.Pid == cri.NamespaceMode_CONTAINER && s.Target != "" {
		sec.NamespaceOptions.Pid, sec.NamespaceOptions.TargetId = cri.NamespaceMode_TARGET, s.Target
	}
	given, err := json.Marshal(c.Resources)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the resources of container %q: %w", c.Name, err)
	}
	res := ContainerResources(c)
	cfg := &cri.ContainerConfig{
		Metadata:   &cri.ContainerMetadata{Name: c.Name, Attempt: s.Attempt},
		Image:      &cri.ImageSpec{Image: s.Image.ID, UserSpecifiedImage: c.Image},
		Command:    expandAll(c.Command, env.lookup),
		Args:       expandAll(c.Args, env.lookup),
		WorkingDir: c.WorkingDir,
		Envs:       env.list(),
		Mounts:     s.Mounts,
		LogPath:    LogPath(c.Name, s.Attempt),
		Stdin:      c.Stdin,
		StdinOnce:  c.StdinOnce,
		Tty:        c.TTY,
		Labels: map[string]string{
			runtime.LabelPodUID: string(s.Pod.UID), runtime.LabelPodName: s.Pod.Name, runtime.LabelPodNamespace: s.Pod.Namespace,
			runtime.LabelContainerName: c.Name, runtime.LabelContainerType: string(s.Type),
		},
		Annotations: map[string]string{
			runtime.AnnotationHash:         podstate.Hash(c),
			runtime.AnnotationResources:    string(given),
			runtime.AnnotationRestartCount: strconv.Itoa(int(s.Attempt)),
			runtime.AnnotationMessagePath:  c.TerminationMessagePath,
			runtime.AnnotationMessagePol:   string(c.TerminationMessagePolicy),
			runtime.AnnotationGrace:        strconv.Itoa(int(podstate.Grace(s.Pod).Seconds())),
		},
		Linux: &cri.LinuxContainerConfig{
			SecurityContext: sec,
			Resources: &cri.LinuxContainerResources{
				CpuShares: res.Shares, CpuPeriod: res.Period, CpuQuota: res.Quota, MemoryLimitInBytes: res.Memory,
				OomScoreAdj: OOMScoreAdjust(s.Pod, c, n.MemoryCapacity),
			},
		},
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		cfg.StopSignal = cri.Signal(cri.Signal_value[string(*c.Lifecycle.StopSignal)])
	}
	if s.MessageFile != "" && c.TerminationMessagePath != "" {
		cfg.Annotations[runtime.AnnotationMessageFile] = s.MessageFile
		cfg.Mounts = append(cfg.Mounts, &cri.Mount{HostPath: s.MessageFile, ContainerPath: c.TerminationMessagePath})
	}
	return cfg, nil
}

// Env returns the container's environment as a function, for expansion in
// subPathExpr.
func Env(ctx context.Context, s Start, n *Node, look Lookup) (func(string) (string, bool), error) {
	env, err := environ(ctx, s.Pod, s.Container, n, s.Addresses, look)
	if err != nil {
		return nil, err
	}
	values := maps.Clone(env.values)
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}, nil
}

// Expand replaces $(NAME) references; see Env.
func Expand(s string, lookup func(string) (string, bool)) string { return expand(s, lookup) }

// LogPath is a container's log file below its pod's log directory.
func LogPath(container string, attempt uint32) string {
	return filepath.Join(container, strconv.Itoa(int(attempt))+".log")
}
