package podstate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/runtime"
)

// view is an Input sorted for the questions decisions ask.
type view struct {
	*Input
	// current is the newest sandbox, if any.
	current *runtime.Sandbox
	// byName holds each container's instances, newest first.
	byName map[string][]*runtime.Container
	// ending is set once the pod is being taken down.
	ending bool
}

func look(in *Input) *view {
	v := &view{Input: in, byName: map[string][]*runtime.Container{}}
	for i := range in.Sandboxes {
		s := &in.Sandboxes[i]
		if v.current == nil || newerSandbox(s, v.current) {
			v.current = s
		}
	}
	for i := range in.Containers {
		c := &in.Containers[i]
		v.byName[c.Name] = append(v.byName[c.Name], c)
	}
	for _, list := range v.byName {
		slices.SortFunc(list, func(a, b *runtime.Container) int {
			if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
				return c
			}
			return int(b.Attempt) - int(a.Attempt)
		})
	}
	return v
}

// newerSandbox prefers a ready sandbox, then the later attempt.
func newerSandbox(a, b *runtime.Sandbox) bool {
	if a.Ready != b.Ready {
		return a.Ready
	}
	if a.Attempt != b.Attempt {
		return a.Attempt > b.Attempt
	}
	return a.CreatedAt.After(b.CreatedAt)
}

// latest returns the newest instance of a container in any sandbox.
func (v *view) latest(name string) *runtime.Container {
	if l := v.byName[name]; len(l) > 0 {
		return l[0]
	}
	return nil
}

// live returns the newest instance in the current, ready sandbox.
func (v *view) live(name string) *runtime.Container {
	c := v.latest(name)
	if c == nil || v.current == nil || c.SandboxID != v.current.ID {
		return nil
	}
	return c
}

func (v *view) sandboxReady() bool { return v.current != nil && v.current.Ready }

// running returns the containers that run or might.
func (v *view) running() []*runtime.Container {
	var out []*runtime.Container
	for i := range v.Containers {
		if s := v.Containers[i].State; s == runtime.Running || s == runtime.Unknown {
			out = append(out, &v.Containers[i])
		}
	}
	return out
}

// started reports whether a running container counts as started.
func (v *view) started(spec *corev1.Container, c *runtime.Container) bool {
	if c == nil || c.State != runtime.Running || v.hookPending(spec) {
		return false
	}
	return spec.StartupProbe == nil || v.Memory.Probes[c.ID].Started
}

// ready reports whether a running container counts as ready.
func (v *view) ready(spec *corev1.Container, c *runtime.Container) bool {
	if !v.started(spec, c) {
		return false
	}
	return spec.ReadinessProbe == nil || v.Memory.Probes[c.ID].Ready
}

// hookPending reports whether the container's start, its postStart hook
// included, is not over. Until then it is not shown as running.
func (v *view) hookPending(spec *corev1.Container) bool {
	return spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil && v.Busy[Task{StartContainer, spec.Name}]
}

// nextAttempt is the restart count of a container's next instance. The API's
// record is a floor: containers may have been lost with the runtime's disk.
func (v *view) nextAttempt(name string) uint32 {
	var n uint32
	if c := v.latest(name); c != nil {
		n = c.Attempt + 1
	}
	for _, list := range [][]corev1.ContainerStatus{v.Pod.Status.ContainerStatuses, v.Pod.Status.InitContainerStatuses} {
		for i := range list {
			if s := &list[i]; s.Name == name && s.ContainerID != "" && v.latest(name) == nil {
				n = max(n, uint32(s.RestartCount)+1)
			}
		}
	}
	return n
}

// initialized reports whether all init containers have done their part in the
// current sandbox; pending names those that have not.
func (v *view) initialized() (ok bool, pending []string) {
	mainSeen := false
	for i := range v.Pod.Spec.Containers {
		if v.live(v.Pod.Spec.Containers[i].Name) != nil {
			mainSeen = true
		}
	}
	for i := range v.Pod.Spec.InitContainers {
		spec := &v.Pod.Spec.InitContainers[i]
		c := v.latest(spec.Name)
		switch {
		case IsSidecar(spec) && (v.started(spec, c) || mainSeen):
		case !IsSidecar(spec) && c != nil && c.State == runtime.Exited && c.ExitCode == 0 && (v.current == nil || c.SandboxID == v.current.ID):
		case !IsSidecar(spec) && mainSeen:
		default:
			pending = append(pending, spec.Name)
		}
	}
	return len(pending) == 0, pending
}
