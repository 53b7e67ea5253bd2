package podstate

import (
	"fmt"
	"slices"
	"time"

	"binnacle.io/core/node/runtime"
)

// leastGrace is what every container gets between signal and kill, upstream's.
const leastGrace = 2 * time.Second

// terminate takes the pod down: main containers, then sidecars last first,
// then the sandbox, the volumes, the object, and what is left on the node.
func (v *view) terminate(p *Plan, f *Failure) {
	v.ending = true
	if v.killAll(p, f) || v.starting() {
		return
	}
	p.Terminal = true
	for i := range v.Sandboxes {
		if v.Sandboxes[i].Ready {
			p.add(v.Input, Action{Task: Task{StopSandbox, v.Sandboxes[i].ID}})
			return
		}
	}
	if !v.Memory.Teardown.Done {
		if v.Memory.Teardown.due(v.Now) {
			p.add(v.Input, Action{Task: Task{Kind: Teardown}})
		} else {
			p.wake(v.Memory.Teardown.RetryAt)
		}
		return
	}
	switch {
	case v.Removed:
		v.remove(p)
	case v.Pod.DeletionTimestamp != nil && !v.Memory.Deleted:
		p.add(v.Input, Action{Task: Task{Kind: DeleteObject}})
	}
}

// killAll kills what runs, in order, and reports whether anything does.
func (v *view) killAll(p *Plan, f *Failure) bool {
	running := v.running()
	if len(running) == 0 {
		return false
	}
	grace := Grace(v.Pod)
	sidecars := map[string]int{} // name → place
	for i := range v.Pod.Spec.InitContainers {
		if IsSidecar(&v.Pod.Spec.InitContainers[i]) {
			sidecars[v.Pod.Spec.InitContainers[i].Name] = i
		}
	}
	last := -1
	others := false
	for _, c := range running {
		if i, ok := sidecars[c.Name]; ok && c.Type == runtime.Init {
			last = max(last, i)
		} else {
			others = true
		}
	}
	// Sidecars share what the others left of the grace period. A kill of
	// before, such as a liveness probe's, says nothing about it.
	var end time.Time
	for id, k := range v.Memory.Kills {
		if (k.Ending || v.Busy[Task{KillContainer, id}]) && k.Deadline.After(end) {
			end = k.Deadline
		}
	}
	for _, c := range running {
		left := max(grace, leastGrace)
		if i, ok := sidecars[c.Name]; ok && c.Type == runtime.Init {
			if others || i != last {
				continue
			}
			if !end.IsZero() {
				left = max(min(left, end.Sub(v.Now)), leastGrace)
			}
		}
		reason := ""
		if f != nil {
			reason = f.Reason
		}
		v.kill(p, c, left, reason, fmt.Sprintf("Stopping container %s", c.Name))
	}
	return true
}

// starting reports whether a sandbox or container may yet appear.
func (v *view) starting() bool {
	for t := range v.Busy {
		if t.Kind == CreateSandbox || t.Kind == StartContainer || t.Kind == Setup {
			return true
		}
	}
	return false
}

// remove deletes all traces from the runtime.
func (v *view) remove(p *Plan) {
	if len(v.Sandboxes) == 0 && len(v.Containers) == 0 {
		p.Done = len(v.Busy) == 0
		return
	}
	for i := range v.Sandboxes {
		p.add(v.Input, Action{Task: Task{RemoveSandbox, v.Sandboxes[i].ID}})
	}
	for i := range v.Containers {
		id := v.Containers[i].SandboxID
		if !slices.ContainsFunc(v.Sandboxes, func(s runtime.Sandbox) bool { return s.ID == id }) {
			p.add(v.Input, Action{Task: Task{RemoveContainer, v.Containers[i].ID}})
		}
	}
}

// Garbage returns the containers that need not be kept: of each name all dead
// ones but the newest and the one before it (kept for `logs --previous`), and
// dead sandboxes without containers but the newest.
func Garbage(in Input) (containers, sandboxes []string) {
	v := look(&in)
	inUse := map[string]bool{}
	for _, list := range v.byName {
		for i, c := range list {
			if i >= 2 && c.State == runtime.Exited {
				containers = append(containers, c.ID)
			} else {
				inUse[c.SandboxID] = true
			}
		}
	}
	for i := range v.Sandboxes {
		if s := &v.Sandboxes[i]; !s.Ready && s.ID != v.current.ID && !inUse[s.ID] {
			sandboxes = append(sandboxes, s.ID)
		}
	}
	slices.Sort(containers)
	slices.Sort(sandboxes)
	return containers, sandboxes
}
