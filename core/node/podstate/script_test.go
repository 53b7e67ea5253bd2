package podstate_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"golang.org/x/tools/txtar"

	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScripts plays the stories in testdata. Each file has a pod and a script;
// what each command answers follows it, indented, and is compared. Commands:
//
//	step                   decide once; show actions, events, wake and status
//	run                    decide and let every action succeed until nothing is left to do
//	done ACTION            the action under way succeeded
//	fail ACTION REASON MSG the action under way failed; it is due again in 10s
//	exit CONTAINER CODE    a running container ended
//	probe CONTAINER VERDICT (started, ready, unready, liveness, startup)
//	sandbox-dies           the sandbox is not ready any more, its containers are dead
//	advance DURATION       time passes
//	delete SECONDS         the API marks the pod deleted
//	removed                the API forgets the pod
//	restart-agent          the memory is lost
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script := section(t, ar, "script")
			w := newWorld(t, section(t, ar, "pod.yaml").Data)
			var got strings.Builder
			for line := range strings.Lines(string(script.Data)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "  ") || line == "" {
					continue
				}
				got.WriteString(line + "\n")
				if !strings.HasPrefix(line, "#") {
					for _, l := range w.do(strings.Fields(line)) {
						got.WriteString("  " + l + "\n")
					}
				}
			}
			if *update {
				script.Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := strings.ReplaceAll(string(script.Data), "\n\n", "\n"); got.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

func section(t *testing.T, ar *txtar.Archive, name string) *txtar.File {
	for i := range ar.Files {
		if ar.Files[i].Name == name {
			return &ar.Files[i]
		}
	}
	t.Fatalf("no section %q", name)
	return nil
}

// world is a runtime that does what it is told, at once.
type world struct {
	t  *testing.T
	in podstate.Input
	n  int // for IDs
	// started are the actions by task, for done and fail.
	started map[podstate.Task]podstate.Action
}

func newWorld(t *testing.T, pod []byte) *world {
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(pod, p); err != nil {
		t.Fatal(err)
	}
	p.Namespace, p.UID = "default", "u1"
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &world{t: t, started: map[podstate.Task]podstate.Action{}, in: podstate.Input{Now: now, Pod: p, HostIPs: []string{"10.0.0.1"}}}
	w.forget()
	w.in.Memory.StartTime = now
	return w
}

func (w *world) forget() {
	w.in.Memory = podstate.Memory{StartTime: w.in.Memory.StartTime, Containers: map[string]podstate.ContainerMemory{},
		Probes: map[string]podstate.Probes{}, Kills: map[string]podstate.Kill{}, Stopped: map[string]bool{}}
	w.in.Busy = map[podstate.Task]bool{}
}

func (w *world) do(f []string) []string {
	switch f[0] {
	case "step":
		return w.step()
	case "run":
		return w.run()
	case "done":
		return w.finish(f[1], func(a podstate.Action) { w.succeed(a) })
	case "fail":
		return w.finish(f[1], func(a podstate.Action) { w.fail(a, f[2], strings.Join(f[3:], " ")) })
	case "exit":
		code, err := strconv.Atoi(f[2])
		if err != nil {
			w.t.Fatal(err)
		}
		c := w.container(f[1])
		c.State, c.ExitCode, c.FinishedAt = runtime.Exited, int32(code), w.in.Now
	case "probe":
		c := w.container(f[1])
		p := w.in.Memory.Probes[c.ID]
		switch f[2] {
		case "started":
			p.Started = true
		case "ready":
			p.Ready = true
		case "unready":
			p.Ready = false
		default:
			p.Failed = strings.ToUpper(f[2][:1]) + f[2][1:]
		}
		w.in.Memory.Probes[c.ID] = p
	case "sandbox-dies":
		for i := range w.in.Sandboxes {
			w.in.Sandboxes[i].Ready = false
		}
		for i := range w.in.Containers {
			if c := &w.in.Containers[i]; c.State == runtime.Running {
				c.State, c.ExitCode, c.FinishedAt = runtime.Exited, 137, w.in.Now
			}
		}
	case "advance":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			w.t.Fatal(err)
		}
		w.in.Now = w.in.Now.Add(d)
	case "delete":
		s, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		at := metav1.NewTime(w.in.Now)
		w.in.Pod.DeletionTimestamp, w.in.Pod.DeletionGracePeriodSeconds = &at, &s
	case "removed":
		w.in.Removed = true
	case "restart-agent":
		w.forget()
	default:
		w.t.Fatalf("unknown command %q", f[0])
	}
	return nil
}

// container returns the newest instance.
func (w *world) container(name string) *runtime.Container {
	for i := len(w.in.Containers) - 1; i >= 0; i-- {
		if w.in.Containers[i].Name == name {
			return &w.in.Containers[i]
		}
	}
	w.t.Fatalf("no container %q", name)
	return nil
}

// name is how scripts call an action: Kind, or Kind/subject.
func (w *world) name(a podstate.Action) string {
	switch {
	case a.Kind == podstate.KillContainer:
		return a.Kind.String() + "/" + a.Container
	case a.Name == "":
		return a.Kind.String()
	}
	return a.Kind.String() + "/" + a.Name
}

func (w *world) step() []string {
	plan := podstate.Decide(w.in)
	var out []string
	for _, a := range plan.Actions {
		s := "do " + w.name(a)
		switch a.Kind {
		case podstate.CreateSandbox, podstate.StartContainer:
			s += fmt.Sprintf(" attempt %d", a.Attempt)
		case podstate.KillContainer:
			s += fmt.Sprintf(" in %v: %s", a.Deadline.Sub(w.in.Now), a.Message)
			w.in.Memory.Kills[a.Name] = podstate.Kill{Deadline: a.Deadline, Ending: a.Ending}
		}
		out = append(out, s)
		w.in.Busy[a.Task] = true
		w.started[a.Task] = a
	}
	for _, e := range plan.Events {
		out = append(out, fmt.Sprintf("event %s %s: %s", e.Type, e.Reason, e.Message))
	}
	if !plan.Wake.IsZero() {
		out = append(out, "wake in "+plan.Wake.Sub(w.in.Now).String())
	}
	if plan.Done {
		return append(out, "done")
	}
	return append(out, w.status()...)
}

func (w *world) run() []string {
	for range 100 {
		plan := podstate.Decide(w.in)
		if len(plan.Actions) == 0 && len(w.in.Busy) == 0 {
			return w.step()
		}
		for _, a := range plan.Actions {
			w.in.Busy[a.Task] = true
			w.started[a.Task] = a
		}
		for t := range w.in.Busy {
			w.succeed(w.started[t])
			delete(w.in.Busy, t)
		}
	}
	w.t.Fatal("the pod does not come to rest")
	return nil
}

func (w *world) finish(name string, f func(podstate.Action)) []string {
	for t := range w.in.Busy {
		if a := w.started[t]; w.name(a) == name {
			delete(w.in.Busy, t)
			f(a)
			return nil
		}
	}
	w.t.Fatalf("%s is not under way", name)
	return nil
}

func (w *world) succeed(a podstate.Action) {
	m := &w.in.Memory
	switch a.Kind {
	case podstate.Setup:
		m.Setup = podstate.Step{Done: true}
	case podstate.CreateSandbox:
		w.n++
		m.Sandbox = podstate.Step{}
		w.in.Sandboxes = append(w.in.Sandboxes, runtime.Sandbox{ID: fmt.Sprintf("s%d", a.Attempt), Attempt: a.Attempt, Ready: true, IPs: []string{"10.244.0.5"}, CreatedAt: w.in.Now})
	case podstate.PullImage:
		c := m.Containers[a.Name]
		c.Image = podstate.Step{Done: true}
		m.Containers[a.Name] = c
	case podstate.StartContainer:
		c := m.Containers[a.Name]
		if a.Attempt > 0 {
			c.Restarts++
		}
		c.Image, c.Start = podstate.Step{}, podstate.Step{}
		m.Containers[a.Name] = c
		w.n++
		w.in.Containers = append(w.in.Containers, runtime.Container{ID: fmt.Sprintf("%s-%d", a.Name, a.Attempt), SandboxID: a.Sandbox, Name: a.Name, Type: a.Type,
			Attempt: a.Attempt, State: runtime.Running, CreatedAt: w.in.Now.Add(time.Duration(w.n)), StartedAt: w.in.Now})
	case podstate.KillContainer:
		for i := range w.in.Containers {
			if c := &w.in.Containers[i]; c.ID == a.Name {
				c.State, c.ExitCode, c.FinishedAt = runtime.Exited, 143, w.in.Now
			}
		}
	case podstate.StopSandbox:
		m.Stopped[a.Name] = true
		for i := range w.in.Sandboxes {
			if w.in.Sandboxes[i].ID == a.Name {
				w.in.Sandboxes[i].Ready = false
			}
		}
	case podstate.Teardown:
		m.Teardown = podstate.Step{Done: true}
	case podstate.DeleteObject:
		m.Deleted = true
	case podstate.RemoveSandbox:
		w.in.Sandboxes = slices.DeleteFunc(w.in.Sandboxes, func(s runtime.Sandbox) bool { return s.ID == a.Name })
		w.in.Containers = slices.DeleteFunc(w.in.Containers, func(c runtime.Container) bool { return c.SandboxID == a.Name })
	case podstate.RemoveContainer:
		w.in.Containers = slices.DeleteFunc(w.in.Containers, func(c runtime.Container) bool { return c.ID == a.Name })
	}
}

func (w *world) fail(a podstate.Action, reason, message string) {
	m := &w.in.Memory
	retry := func(s podstate.Step) podstate.Step { return s.Fail(w.in.Now, 10*time.Second, reason, message) }
	c := m.Containers[a.Name]
	switch a.Kind {
	case podstate.Setup:
		m.Setup = retry(m.Setup)
	case podstate.CreateSandbox:
		m.Sandbox = retry(m.Sandbox)
	case podstate.PullImage:
		c.Image = retry(c.Image)
	case podstate.StartContainer:
		c.Start, c.Image = retry(c.Start), podstate.Step{}
	}
	m.Containers[a.Name] = c
}

func (w *world) status() []string {
	st := podstate.Status(w.in)
	w.in.Pod.Status = st
	line := "status " + string(st.Phase)
	if st.Reason != "" {
		line += " " + st.Reason
	}
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady} {
		for _, c := range st.Conditions {
			if c.Type == t {
				line += fmt.Sprintf(" %s=%s", t, c.Status)
			}
		}
	}
	out := []string{line}
	for _, cs := range append(slices.Clone(st.InitContainerStatuses), st.ContainerStatuses...) {
		s := cs.Name + ": "
		switch {
		case cs.State.Running != nil:
			s += "running"
		case cs.State.Terminated != nil:
			s += fmt.Sprintf("terminated %s(%d)", cs.State.Terminated.Reason, cs.State.Terminated.ExitCode)
		default:
			s += "waiting " + cs.State.Waiting.Reason
		}
		if cs.Ready {
			s += " ready"
		}
		if cs.RestartCount > 0 {
			s += fmt.Sprintf(" restarts %d", cs.RestartCount)
		}
		if l := cs.LastTerminationState.Terminated; l != nil {
			s += fmt.Sprintf(" last %s(%d)", l.Reason, l.ExitCode)
		}
		out = append(out, s)
	}
	return out
}
