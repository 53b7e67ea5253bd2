package podstate

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/node/runtime"
)

// Hash identifies the part of a container's definition that cannot change
// without a restart.
func Hash(c *corev1.Container) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s", c.Name, c.Image)
	return fmt.Sprintf("%x", h.Sum32())
}

// Status returns the status the API should show. It starts from the stored
// one, so what others wrote into it stays.
func Status(in Input) corev1.PodStatus {
	v := look(&in)
	var plan Plan
	failed := v.failure(&plan)
	old := &in.Pod.Status
	st := *old.DeepCopy()
	st.ObservedGeneration = in.Pod.Generation
	if st.StartTime == nil && !in.Memory.StartTime.IsZero() {
		t := stamp(in.Memory.StartTime)
		st.StartTime = &t
	}
	v.addresses(&st)

	ending := failed != nil || in.Pod.DeletionTimestamp != nil || in.Removed
	terminal := (ending || v.finished()) && len(v.running()) == 0 && !v.starting()
	initDone, _ := v.initialized()

	st.InitContainerStatuses = v.statuses(in.Pod.Spec.InitContainers, old.InitContainerStatuses, runtime.Init, true, terminal)
	st.ContainerStatuses = v.statuses(in.Pod.Spec.Containers, old.ContainerStatuses, runtime.Main, initDone, terminal)
	var eph []corev1.Container
	for i := range in.Pod.Spec.EphemeralContainers {
		eph = append(eph, corev1.Container(in.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	st.EphemeralContainerStatuses = v.statuses(eph, old.EphemeralContainerStatuses, runtime.Ephemeral, true, terminal)

	switch {
	case old.Phase == corev1.PodSucceeded || old.Phase == corev1.PodFailed:
		st.Phase = old.Phase
	case failed != nil && terminal:
		st.Phase, st.Reason, st.Message = corev1.PodFailed, failed.Reason, failed.Message
	default:
		st.Phase = v.phase(&st, terminal)
	}
	v.conditions(&st)
	return st
}

// addresses fills in what the sandbox and the node give.
func (v *view) addresses(st *corev1.PodStatus) {
	if len(v.HostIPs) > 0 && !v.Memory.StartTime.IsZero() {
		st.HostIP = v.HostIPs[0]
		st.HostIPs = nil
		for _, ip := range v.HostIPs {
			st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	ips := v.podIPs()
	if len(ips) == 0 {
		return
	}
	st.PodIP = ips[0]
	st.PodIPs = nil
	for _, ip := range ips {
		st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip})
	}
}

func (v *view) podIPs() []string {
	if v.Pod.Spec.HostNetwork {
		if v.current == nil {
			return nil
		}
		return v.HostIPs
	}
	if !v.sandboxReady() {
		return nil
	}
	return v.current.IPs
}

func (v *view) statuses(specs []corev1.Container, old []corev1.ContainerStatus, t runtime.ContainerType, initDone, terminal bool) []corev1.ContainerStatus {
	if len(specs) == 0 {
		return nil
	}
	out := make([]corev1.ContainerStatus, len(specs))
	for i := range specs {
		var was *corev1.ContainerStatus
		if j := slices.IndexFunc(old, func(s corev1.ContainerStatus) bool { return s.Name == specs[i].Name }); j >= 0 {
			was = &old[j]
		}
		out[i] = v.container(&specs[i], was, t, initDone, terminal)
	}
	slices.SortStableFunc(out, func(a, b corev1.ContainerStatus) int {
		if t == runtime.Main {
			return strings.Compare(a.Name, b.Name)
		}
		return 0
	})
	return out
}

// container describes one container.
func (v *view) container(spec *corev1.Container, was *corev1.ContainerStatus, t runtime.ContainerType, initDone, terminal bool) corev1.ContainerStatus {
	cs := corev1.ContainerStatus{Name: spec.Name, Image: spec.Image}
	started := false
	cs.Started = &started
	c := v.latest(spec.Name)
	if c == nil {
		v.unseen(&cs, spec, was, t, initDone, terminal)
		return cs
	}
	cs.RestartCount = int32(c.Attempt)
	cs.ContainerID = ContainerID(c.ID)
	if c.Image != "" {
		cs.Image = c.Image
	}
	cs.ImageID = c.ImageID
	if prev := v.previous(spec.Name); prev != nil {
		cs.LastTerminationState.Terminated = terminated(prev)
	} else if was != nil && was.RestartCount == cs.RestartCount {
		cs.LastTerminationState = was.LastTerminationState
	}
	m := v.Memory.Containers[spec.Name]
	switch c.State {
	case runtime.Running:
		if v.hookPending(spec) {
			cs.State.Waiting = v.waiting(t, initDone)
			break
		}
		cs.State.Running = &corev1.ContainerStateRunning{StartedAt: stamp(c.StartedAt)}
		cs.Resources = given(c, spec)
		cs.AllocatedResources = cs.Resources.Requests
		started = v.started(spec, c)
		cs.Ready = v.ready(spec, c)
	case runtime.Exited:
		cs.State.Terminated = terminated(c)
		if t == runtime.Init && !IsSidecar(spec) {
			cs.Ready = c.ExitCode == 0
		}
		if terminal || v.Pod.DeletionTimestamp != nil || v.Removed || !v.restarts(spec, t, c) {
			break
		}
		if w := v.delayed(spec, m, c); w != nil {
			cs.LastTerminationState = cs.State
			cs.State = corev1.ContainerState{Waiting: w}
			cs.Ready = false
		}
	case runtime.Created:
		cs.State.Waiting = v.waiting(t, initDone)
		if m.Start.Reason != "" {
			cs.State.Waiting = &corev1.ContainerStateWaiting{Reason: m.Start.Reason, Message: m.Start.Message}
		}
	default:
		cs.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerStatusUnknown"}
	}
	return cs
}

// given returns the resources a container runs with, which a resize of the
// spec does not change.
func given(c *runtime.Container, spec *corev1.Container) *corev1.ResourceRequirements {
	var r corev1.ResourceRequirements
	if text := c.Annotations[runtime.AnnotationResources]; text != "" && json.Unmarshal([]byte(text), &r) == nil {
		return &r
	}
	return spec.Resources.DeepCopy()
}

// resized names the running containers whose resources the spec has changed.
func (v *view) resized() []string {
	var names []string
	for _, list := range [][]corev1.Container{v.Pod.Spec.InitContainers, v.Pod.Spec.Containers} {
		for i := range list {
			c := v.live(list[i].Name)
			if c != nil && c.State == runtime.Running && !apiequality.Semantic.DeepEqual(*given(c, &list[i]), list[i].Resources) {
				names = append(names, list[i].Name)
			}
		}
	}
	return names
}

// restarts reports whether an exited container will be followed by another.
func (v *view) restarts(spec *corev1.Container, t runtime.ContainerType, c *runtime.Container) bool {
	if t == runtime.Ephemeral {
		return false
	}
	if v.current != nil && c.SandboxID != v.current.ID && !v.finished() {
		return true
	}
	return restartsAfter(v.Pod, spec, t == runtime.Init, c.ExitCode)
}

// delayed says what an ended container waits for before its next start.
func (v *view) delayed(spec *corev1.Container, m ContainerMemory, c *runtime.Container) *corev1.ContainerStateWaiting {
	if delay := v.crashDelay(spec.Name, c); v.Now.Before(c.FinishedAt.Add(delay)) {
		return &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: crashMessage(v.Pod, spec.Name, delay)}
	}
	if w := imageWaiting(spec, m.Image, v.Now); w != nil {
		return w
	}
	if m.Start.Reason != "" {
		return &corev1.ContainerStateWaiting{Reason: m.Start.Reason, Message: m.Start.Message}
	}
	return nil
}

func imageWaiting(spec *corev1.Container, s Step, now time.Time) *corev1.ContainerStateWaiting {
	if s.Reason == "" {
		return nil
	}
	if s.Reason == "ErrImagePull" && !now.Before(s.FailedAt.Add(errImageShown)) {
		return &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff",
			Message: fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", spec.Image, s.Message)}
	}
	return &corev1.ContainerStateWaiting{Reason: s.Reason, Message: s.Message}
}

// unseen describes a container of which the runtime has nothing.
func (v *view) unseen(cs *corev1.ContainerStatus, spec *corev1.Container, was *corev1.ContainerStatus, t runtime.ContainerType, initDone, terminal bool) {
	m := v.Memory.Containers[spec.Name]
	if was != nil && was.ContainerID != "" {
		cs.RestartCount, cs.LastTerminationState = was.RestartCount, was.LastTerminationState
		lost := &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown",
			Message: "The container could not be located when the pod was terminated", ContainerID: was.ContainerID}
		switch {
		case was.State.Terminated != nil: // its remains were collected
			*cs = *was.DeepCopy()
			return
		case terminal:
			cs.State.Terminated = lost
			cs.ContainerID, cs.ImageID = was.ContainerID, was.ImageID
			return
		case was.State.Running != nil:
			lost.Message = "The container could not be located when the pod was deleted.  The container used to be Running"
			cs.LastTerminationState.Terminated = lost
			cs.RestartCount++
		}
	}
	switch w := imageWaiting(spec, m.Image, v.Now); {
	case w != nil:
		cs.State.Waiting = w
	case m.Start.Reason != "":
		cs.State.Waiting = &corev1.ContainerStateWaiting{Reason: m.Start.Reason, Message: m.Start.Message}
	default:
		cs.State.Waiting = v.waiting(t, initDone)
	}
}

func (v *view) waiting(t runtime.ContainerType, initDone bool) *corev1.ContainerStateWaiting {
	if len(v.Pod.Spec.InitContainers) > 0 && (!initDone || t == runtime.Init) {
		return &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

// previous returns the last ended instance before the newest.
func (v *view) previous(name string) *runtime.Container {
	list := v.byName[name]
	for i := 1; i < len(list); i++ {
		if list[i].State == runtime.Exited {
			return list[i]
		}
	}
	return nil
}

// stamp is a time as the API stores it, to the second.
func stamp(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// ContainerID is a container's ID as the API shows it.
func ContainerID(id string) string { return "containerd://" + id }

func terminated(c *runtime.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{ExitCode: c.ExitCode, Reason: c.Reason, Message: c.Message, ContainerID: ContainerID(c.ID),
		StartedAt: stamp(c.StartedAt), FinishedAt: stamp(c.FinishedAt)}
	if t.Reason == "" {
		t.Reason = "Completed"
		if c.ExitCode != 0 {
			t.Reason = "Error"
		}
	}
	return t
}

// phase is the pod's phase by its containers' states, upstream's rules.
func (v *view) phase(st *corev1.PodStatus, terminal bool) corev1.PodPhase {
	var waiting, running, stopped, succeeded, fresh int
	for i := range st.ContainerStatuses {
		switch cs := &st.ContainerStatuses[i]; {
		case cs.State.Running != nil:
			running++
		case cs.State.Terminated != nil:
			stopped++
			if cs.State.Terminated.ExitCode == 0 {
				succeeded++
			}
		case cs.LastTerminationState.Terminated != nil:
			stopped++
		default:
			waiting++
			fresh++
		}
	}
	sidecars := 0
	for i := range v.Pod.Spec.InitContainers {
		spec := &v.Pod.Spec.InitContainers[i]
		cs := &st.InitContainerStatuses[i]
		if IsSidecar(spec) {
			if cs.State.Running != nil {
				sidecars++
			}
			continue
		}
		if t := cs.State.Terminated; t != nil && t.ExitCode != 0 && !restartsAfter(v.Pod, spec, true, t.ExitCode) {
			return corev1.PodFailed
		}
	}
	initDone, _ := v.initialized()
	switch {
	case terminal && stopped == len(st.ContainerStatuses) && succeeded == stopped:
		return corev1.PodSucceeded
	case terminal:
		return corev1.PodFailed
	case !initDone && running == 0 && stopped == 0, waiting > 0:
		return corev1.PodPending
	case running > 0, sidecars > 0 && stopped > 0:
		return corev1.PodRunning
	case stopped > 0 && v.finished():
		if succeeded == stopped {
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	case stopped > 0:
		return corev1.PodRunning
	}
	return corev1.PodPending
}
