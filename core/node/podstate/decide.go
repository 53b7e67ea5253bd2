package podstate

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/runtime"
)

// Decide returns what to do next for the pod.
func Decide(in Input) Plan {
	var p Plan
	v := look(&in)
	if f := v.failure(&p); f != nil || in.Pod.DeletionTimestamp != nil || in.Removed || v.finished() {
		v.terminate(&p, f)
		return p
	}
	v.run(&p)
	return p
}

// failure returns why the whole pod has failed, if it has.
func (v *view) failure(p *Plan) *Failure {
	if v.Rejected != nil {
		return v.Rejected
	}
	if s := v.Pod.Spec.ActiveDeadlineSeconds; s != nil && !v.Memory.StartTime.IsZero() {
		end := v.Memory.StartTime.Add(time.Duration(*s) * time.Second)
		if !v.Now.Before(end) {
			return &Failure{"DeadlineExceeded", "Pod was active on the node longer than the specified deadline"}
		}
		p.wake(end)
	}
	return nil
}

// finished reports whether the pod has come to its own end: recorded so in
// the API, or nothing runs and nothing is to run again.
func (v *view) finished() bool {
	if ph := v.Pod.Status.Phase; ph == corev1.PodSucceeded || ph == corev1.PodFailed {
		return true
	}
	for i := range v.Pod.Spec.InitContainers {
		spec := &v.Pod.Spec.InitContainers[i]
		c := v.latest(spec.Name)
		if !IsSidecar(spec) && c != nil && c.State == runtime.Exited && c.ExitCode != 0 && !restartsAfter(v.Pod, spec, true, c.ExitCode) {
			return true
		}
	}
	for i := range v.Pod.Spec.Containers {
		spec := &v.Pod.Spec.Containers[i]
		c := v.latest(spec.Name)
		if c == nil || c.State != runtime.Exited || restartsAfter(v.Pod, spec, false, c.ExitCode) || v.Busy[Task{StartContainer, spec.Name}] {
			return false
		}
	}
	return true
}

// run brings the pod up and keeps it so.
func (v *view) run(p *Plan) {
	if !v.Memory.Setup.Done {
		if v.Memory.Setup.due(v.Now) {
			p.add(v.Input, Action{Task: Task{Kind: Setup}})
		} else {
			p.wake(v.Memory.Setup.RetryAt)
		}
	}
	if !v.sandboxReady() {
		if !v.replaceSandbox(p) {
			return
		}
	} else {
		for i := range v.Sandboxes { // left-overs of an interrupted replacement
			if s := &v.Sandboxes[i]; s.Ready && s.ID != v.current.ID {
				p.add(v.Input, Action{Task: Task{StopSandbox, s.ID}})
			}
		}
	}
	for i := range v.Pod.Spec.EphemeralContainers {
		spec := corev1.Container(v.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if v.latest(spec.Name) == nil {
			v.start(p, &spec, runtime.Ephemeral)
		}
	}
	if !v.runInit(p) {
		return
	}
	for i := range v.Pod.Spec.Containers {
		spec := &v.Pod.Spec.Containers[i]
		v.keep(p, spec, runtime.Main)
	}
}

// replaceSandbox makes a new sandbox. It reports whether preparations for its
// containers may go on meanwhile.
func (v *view) replaceSandbox(p *Plan) bool {
	for _, c := range v.running() {
		v.kill(p, c, 2*time.Second, "", "Pod sandbox changed, it will be killed and re-created.")
	}
	if len(v.running()) > 0 {
		return false
	}
	task := Task{Kind: CreateSandbox}
	if v.Busy[task] {
		return true
	}
	stopped := true
	for _, s := range v.Sandboxes {
		if !v.Memory.Stopped[s.ID] {
			p.add(v.Input, Action{Task: Task{StopSandbox, s.ID}})
			stopped = false
		}
	}
	if !stopped {
		return false
	}
	if !v.Memory.Sandbox.due(v.Now) {
		p.wake(v.Memory.Sandbox.RetryAt)
		return false
	}
	a := Action{Task: task}
	for _, s := range v.Sandboxes {
		a.Attempt = max(a.Attempt, s.Attempt+1)
	}
	if a.Attempt > 0 && v.current != nil {
		p.Events = append(p.Events, Event{Key: "sandbox/" + v.current.ID, Type: corev1.EventTypeNormal, Reason: "SandboxChanged",
			Message: "Pod sandbox changed, it will be killed and re-created."})
	}
	p.Actions = append(p.Actions, a)
	return true
}

// runInit runs the init containers in order and keeps sidecars running. It
// reports whether the main containers may run.
func (v *view) runInit(p *Plan) bool {
	done, _ := v.initialized()
	for i := range v.Pod.Spec.InitContainers {
		spec := &v.Pod.Spec.InitContainers[i]
		if IsSidecar(spec) {
			v.keep(p, spec, runtime.Init)
			if !done && !v.started(spec, v.live(spec.Name)) {
				return false
			}
			continue
		}
		if done {
			continue
		}
		c := v.live(spec.Name)
		if c != nil && c.State == runtime.Exited && c.ExitCode == 0 {
			continue
		}
		v.keep(p, spec, runtime.Init)
		return false
	}
	return true
}

// keep starts a container that does not run and should, and kills one that
// should not go on as it is.
func (v *view) keep(p *Plan, spec *corev1.Container, t runtime.ContainerType) {
	c := v.live(spec.Name)
	if c == nil || c.State == runtime.Created && !v.Busy[Task{StartContainer, spec.Name}] {
		v.start(p, spec, t)
		return
	}
	switch c.State {
	case runtime.Running:
		if probes := v.Memory.Probes[c.ID]; probes.Failed != "" {
			grace := Grace(v.Pod)
			if probes.Grace != nil {
				grace = time.Duration(*probes.Grace) * time.Second
			}
			v.kill(p, c, grace, probes.Failed, fmt.Sprintf("Container %s failed %s probe, will be restarted", spec.Name, lowerFirst(probes.Failed)))
		} else if c.Hash != "" && c.Hash != Hash(spec) {
			v.kill(p, c, Grace(v.Pod), "", fmt.Sprintf("Container %s definition changed, will be restarted", spec.Name))
		}
	case runtime.Unknown:
		v.kill(p, c, Grace(v.Pod), "", fmt.Sprintf("Container %s is in unknown state, try killing it before restart", spec.Name))
	case runtime.Exited:
		if c.Hash != "" && c.Hash != Hash(spec) || restartsAfter(v.Pod, spec, t == runtime.Init, c.ExitCode) {
			v.start(p, spec, t)
		}
	}
}

// crashDelay returns how long after its end the container's last instance is
// followed by a new one.
func (v *view) crashDelay(name string, last *runtime.Container) time.Duration {
	if last == nil || last.State != runtime.Exited || RanLong(last.StartedAt, last.FinishedAt) {
		return 0
	}
	m, ok := v.Memory.Containers[name]
	if !ok {
		return RestartDelay(int(last.Attempt))
	}
	return RestartDelay(m.Restarts)
}

// start gets the image and, once everything is there, starts the container.
func (v *view) start(p *Plan, spec *corev1.Container, t runtime.ContainerType) {
	if v.Busy[Task{StartContainer, spec.Name}] {
		return
	}
	if last := v.live(spec.Name); last != nil && last.State == runtime.Exited {
		if delay := v.crashDelay(spec.Name, last); v.Now.Before(last.FinishedAt.Add(delay)) {
			p.wake(last.FinishedAt.Add(delay))
			p.Events = append(p.Events, Event{Key: "BackOff/" + last.ID, Type: corev1.EventTypeWarning, Reason: "BackOff", Container: spec.Name,
				Message: fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", spec.Name, v.Pod.Name, v.Pod.Namespace, v.Pod.UID)})
			return
		}
	}
	m := v.Memory.Containers[spec.Name]
	if !m.Start.due(v.Now) {
		p.wake(m.Start.RetryAt)
		return
	}
	if !m.Image.Done {
		v.pull(p, spec, m.Image)
		return
	}
	if !v.sandboxReady() || !v.Memory.Setup.Done {
		return
	}
	p.add(v.Input, Action{Task: Task{StartContainer, spec.Name}, Type: t, Sandbox: v.current.ID, Attempt: v.nextAttempt(spec.Name)})
}

// errImageShown is how long a failed pull is shown as ErrImagePull before it
// becomes ImagePullBackOff; upstream changes at its next sync.
const errImageShown = 2 * time.Second

func (v *view) pull(p *Plan, spec *corev1.Container, s Step) {
	if s.due(v.Now) {
		p.add(v.Input, Action{Task: Task{PullImage, spec.Name}})
		return
	}
	p.wake(s.RetryAt)
	if s.Reason != "ErrImagePull" {
		return
	}
	if shown := s.FailedAt.Add(errImageShown); v.Now.Before(shown) {
		p.wake(shown)
		return
	}
	p.Events = append(p.Events,
		Event{Key: fmt.Sprintf("ImageBackOff/%s/%d", spec.Name, s.Failures), Type: corev1.EventTypeNormal, Reason: "BackOff", Container: spec.Name,
			Message: fmt.Sprintf("Back-off pulling image %q", spec.Image)},
		Event{Key: fmt.Sprintf("ImageFailed/%s/%d", spec.Name, s.Failures), Type: corev1.EventTypeWarning, Reason: "Failed", Container: spec.Name,
			Message: "Error: ImagePullBackOff"})
}

// kill asks for a container's end within grace, unless an end at least as
// soon is under way.
func (v *view) kill(p *Plan, c *runtime.Container, grace time.Duration, reason, message string) {
	deadline := v.Now.Add(grace)
	task := Task{KillContainer, c.ID}
	if k, ok := v.Memory.Kills[c.ID]; ok && v.Busy[task] && !deadline.Before(k.Deadline.Add(-time.Second)) {
		return
	}
	p.Actions = append(p.Actions, Action{Task: task, Container: c.Name, Ending: v.ending, Type: c.Type, Deadline: deadline, Reason: reason, Message: message})
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return string(s[0]|0x20) + s[1:]
}
