package runtime

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// The labels and annotations on sandboxes and containers. They are upstream's,
// so that crictl, log collectors and cAdvisor find what they expect.
const (
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelContainerName = "io.kubernetes.container.name"
	LabelContainerType = "io.kubernetes.container.type"

	AnnotationHash         = "io.kubernetes.container.hash"
	AnnotationRestartCount = "io.kubernetes.container.restartCount"
	AnnotationMessagePath  = "io.kubernetes.container.terminationMessagePath"
	AnnotationMessagePol   = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationGrace        = "io.kubernetes.pod.terminationGracePeriod"
	// AnnotationResources holds the resources the container was created with,
	// as JSON.
	AnnotationResources = "binnacle.io/resources"
	// AnnotationMessageFile is the host path of the file mounted at the
	// container's termination message path.
	AnnotationMessageFile = "binnacle.io/termination-message-file"
)

// ContainerType says which of a pod's lists a container comes from.
type ContainerType string

// The container types.
const (
	Main      ContainerType = "CONTAINER"
	Init      ContainerType = "INIT_CONTAINER"
	Ephemeral ContainerType = "EPHEMERAL_CONTAINER"
)

// State is a container's state as the runtime reports it.
type State int

// The container states.
const (
	Unknown State = iota
	Created
	Running
	Exited
)

func (s State) String() string {
	return [...]string{"unknown", "created", "running", "exited"}[s]
}

// PodID names a pod on this node.
type PodID struct {
	UID             types.UID
	Namespace, Name string
}

// Sandbox is one observed pod sandbox.
type Sandbox struct {
	ID        string
	Pod       PodID
	Attempt   uint32
	Ready     bool
	CreatedAt time.Time
	// IPs are the addresses the network gave it, the first being primary.
	// Empty for host-network sandboxes.
	IPs         []string
	HostNetwork bool
	LogDir      string // empty where the runtime does not say
}

// Container is one observed container.
type Container struct {
	ID        string
	SandboxID string
	Pod       PodID
	Name      string
	Type      ContainerType
	// Attempt is the restart count it was created with.
	Attempt uint32
	State   State

	CreatedAt, StartedAt, FinishedAt time.Time
	ExitCode                         int32
	// Reason and Message are the runtime's, e.g. OOMKilled. Message also
	// carries the termination message once the container has exited.
	Reason, Message string

	Image   string // as asked for
	ImageID string // as resolved: name@digest or digest
	LogPath string
	// Hash is the configuration hash it was created with.
	Hash string
	// Annotations as given at creation.
	Annotations map[string]string
}

// Image is one image the runtime holds.
type Image struct {
	ID      string
	Tags    []string
	Digests []string
	Size    uint64
	Pinned  bool
	// User and UID are what the image's configuration asks to run as.
	User string
	UID  *int64
}

// Version identifies the runtime.
type Version struct {
	Name, Version string
}

// Condition is a readiness statement of the runtime about a part of itself.
type Condition struct {
	OK              bool
	Reason, Message string
}

// Health is the runtime's own view of itself.
type Health struct {
	Runtime, Network Condition
}

// ExecResult is what a command run to its end left.
type ExecResult struct {
	ExitCode       int32
	Stdout, Stderr []byte
}
