package podstate

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/runtime"
)

// Input is everything a decision depends on. Decide and Status do not change
// or keep it.
type Input struct {
	Now time.Time
	// Pod is the desired pod, its status included (conditions of others,
	// restart counts and start time survive through it).
	Pod *corev1.Pod
	// Removed says that the API no longer has this pod.
	Removed bool
	// Rejected is set when the node refuses or evicts the pod.
	Rejected *Failure

	Sandboxes  []runtime.Sandbox
	Containers []runtime.Container

	Memory Memory
	// Busy holds the actions under way.
	Busy map[Task]bool

	HostIPs []string
}

// Failure is a reason for a whole pod to have failed.
type Failure struct {
	Reason, Message string
}

// Memory is what the worker remembers of earlier actions. It is lost when the
// agent restarts; everything here can be found out anew.
type Memory struct {
	// Setup is the pod's volumes and directories, Sandbox its creation,
	// Teardown the undoing of Setup.
	Setup, Sandbox, Teardown Step
	// Deleted says that the API has been asked to forget the pod.
	Deleted    bool
	Containers map[string]ContainerMemory
	// Probes hold the latest verdicts by container ID.
	Probes map[string]Probes
	// Kills hold when each container, by ID, will have been killed.
	Kills map[string]Kill
	// Stopped holds the sandboxes that were stopped for good, by ID. One that
	// died by itself still has its address and host ports.
	Stopped map[string]bool
	// StartTime is when the node first acted on the pod.
	StartTime time.Time
}

// Step is the outcome of something that is tried until it succeeds.
type Step struct {
	Done     bool
	Failures int
	FailedAt time.Time
	RetryAt  time.Time
	Reason   string
	Message  string
}

func (s Step) due(now time.Time) bool { return !now.Before(s.RetryAt) }

// Fail returns the step after one more failure, to be retried after delay.
func (s Step) Fail(now time.Time, delay time.Duration, reason, message string) Step {
	return Step{Failures: s.Failures + 1, FailedAt: now, RetryAt: now.Add(delay), Reason: reason, Message: message}
}

// ContainerMemory is what is remembered of one container by name.
type ContainerMemory struct {
	// Restarts counts restarts in a row without a long run between them.
	Restarts int
	// Image is whether the image is here for the next start.
	Image Step
	// Start is the last attempt to create and start.
	Start Step
}

// Probes are the verdicts on one container.
type Probes struct {
	// Started is the startup probe's, Ready the readiness probe's. They are
	// meaningful only where such a probe exists.
	Started, Ready bool
	// Failed is set when the container must be killed: "Liveness" or
	// "Startup".
	Failed string
	// Grace overrides the pod's grace period for that.
	Grace *int64
}

// Kill is a container's end in progress.
type Kill struct {
	Deadline time.Time
	// Ending says that the whole pod ends, not this container alone.
	Ending bool
}

// Kind is a kind of action.
type Kind int

// The actions.
const (
	Setup Kind = iota
	CreateSandbox
	PullImage
	StartContainer
	KillContainer
	StopSandbox
	Teardown
	DeleteObject
	RemoveContainer
	RemoveSandbox
)

func (k Kind) String() string {
	return [...]string{"Setup", "CreateSandbox", "PullImage", "StartContainer", "KillContainer",
		"StopSandbox", "Teardown", "DeleteObject", "RemoveContainer", "RemoveSandbox"}[k]
}

// Task identifies an action under way: at most one per Task at a time.
type Task struct {
	Kind Kind
	// Name is a container's name for PullImage and StartContainer, else an
	// ID.
	Name string
}

// Action is one thing to do.
type Action struct {
	Task
	// Attempt is the new restart count or sandbox attempt.
	Attempt uint32
	// Sandbox is where to start a container.
	Sandbox string
	Type    runtime.ContainerType
	// Deadline is when a killed container is killed for good.
	Deadline time.Time
	// Container is the name of the container to kill, Ending whether the
	// whole pod ends.
	Container string
	Ending    bool
	// Reason and Message say why, for the Killing event.
	Reason, Message string
}

// Event is something to be recorded on the pod. Key is the same as long as
// the same thing is told.
type Event struct {
	Key             string
	Type            string
	Reason, Message string
	Container       string // name, or empty for the pod
}

// Plan is a decision.
type Plan struct {
	Actions []Action
	Events  []Event
	// Wake is when to decide anew even if nothing happens; zero is never.
	Wake time.Time
	// Terminal says that no container runs and none will be started.
	Terminal bool
	// Done says that nothing is left of the pod, neither here nor in the
	// API.
	Done bool
}

func (p *Plan) wake(t time.Time) {
	if p.Wake.IsZero() || t.Before(p.Wake) {
		p.Wake = t
	}
}

// add appends an action unless it is under way.
func (p *Plan) add(in *Input, a Action) {
	if !in.Busy[a.Task] {
		p.Actions = append(p.Actions, a)
	}
}
