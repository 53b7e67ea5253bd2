package node

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/node/runtime"
)

// Runtime is what the agent needs of a container runtime. runtime.CRI is one.
type Runtime interface {
	Version(ctx context.Context) (runtime.Version, error)
	Health(ctx context.Context) (runtime.Health, error)
	SetPodCIDR(ctx context.Context, cidr string) error

	// Observe returns what there is of one pod, or of all for an empty uid.
	Observe(ctx context.Context, uid types.UID) ([]runtime.Sandbox, []runtime.Container, error)
	// Events calls changed when something of a pod changed, until the stream
	// ends. ready is called once nothing can be missed any more.
	Events(ctx context.Context, ready func(), changed func(runtime.PodID)) error

	RunSandbox(ctx context.Context, cfg *cri.PodSandboxConfig, handler string) (id string, err error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	CreateContainer(ctx context.Context, sandbox string, sc *cri.PodSandboxConfig, cc *cri.ContainerConfig) (id string, err error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error

	Image(ctx context.Context, name string) (img runtime.Image, ok bool, err error)
	Pull(ctx context.Context, name string, auth *runtime.Credentials, sandbox *cri.PodSandboxConfig) (ref string, err error)
	Images(ctx context.Context) ([]runtime.Image, error)

	Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (runtime.ExecResult, error)
	ExecURL(ctx context.Context, r *cri.ExecRequest) (string, error)
	AttachURL(ctx context.Context, r *cri.AttachRequest) (string, error)
	PortForwardURL(ctx context.Context, r *cri.PortForwardRequest) (string, error)
	ReopenLog(ctx context.Context, id string) error
}
