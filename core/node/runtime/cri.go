package runtime

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/telemetry"
)

// MaxMessage is the largest CRI message accepted, in bytes; upstream's value.
const MaxMessage = 16 << 20

// CRI speaks to a container runtime's socket. It is safe for concurrent use.
type CRI struct {
	conn *grpc.ClientConn
	rt   cri.RuntimeServiceClient
	img  cri.ImageServiceClient
	tel  *telemetry.Component
	ops  *operations
	seen *statusCache
}

// Dial returns a client of the runtime at the given unix socket path. It does
// not wait for the runtime: calls do.
func Dial(socket string, tel *telemetry.Component) (*CRI, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot dial container runtime at %q: %w", socket, err)
	}
	return &CRI{
		conn: conn,
		rt:   cri.NewRuntimeServiceClient(conn),
		img:  cri.NewImageServiceClient(conn),
		tel:  tel,
		ops:  newOperations(tel.Registry),
		seen: newStatusCache(),
	}, nil
}

// Close ends the connection.
func (c *CRI) Close() error { return c.conn.Close() }

// IsNotFound reports whether the runtime said that the thing does not exist.
func IsNotFound(err error) bool { return status.Code(unwrapStatus(err)) == codes.NotFound }

// IsUnavailable reports whether the runtime could not be reached.
func IsUnavailable(err error) bool { return status.Code(unwrapStatus(err)) == codes.Unavailable }

// Detail is the runtime's own words, without the gRPC wrapping.
func Detail(err error) string {
	if s, ok := status.FromError(unwrapStatus(err)); ok {
		return s.Message()
	}
	return err.Error()
}

// Version asks the runtime who it is.
func (c *CRI) Version(ctx context.Context) (Version, error) {
	r, err := call(ctx, c, "version", c.rt.Version, &cri.VersionRequest{})
	if err != nil {
		return Version{}, err
	}
	return Version{Name: r.RuntimeName, Version: r.RuntimeVersion}, nil
}

// Health asks the runtime how it is.
func (c *CRI) Health(ctx context.Context) (Health, error) {
	r, err := call(ctx, c, "status", c.rt.Status, &cri.StatusRequest{})
	if err != nil {
		return Health{}, err
	}
	var h Health
	for _, cond := range r.Status.GetConditions() {
		v := Condition{OK: cond.Status, Reason: cond.Reason, Message: cond.Message}
		switch cond.Type {
		case cri.RuntimeReady:
			h.Runtime = v
		case cri.NetworkReady:
			h.Network = v
		}
	}
	return h, nil
}

// SetPodCIDR tells the runtime the node's pod address range.
func (c *CRI) SetPodCIDR(ctx context.Context, cidr string) error {
	_, err := call(ctx, c, "update_runtime_config", c.rt.UpdateRuntimeConfig, &cri.UpdateRuntimeConfigRequest{
		RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: cidr}},
	})
	return err
}

// RunSandbox creates and starts a pod sandbox and returns its ID.
func (c *CRI) RunSandbox(ctx context.Context, cfg *cri.PodSandboxConfig, handler string) (id string, err error) {
	ctx, span := c.tel.Tracer.Start(ctx, "create sandbox", trace.WithAttributes(
		attribute.String("k8s.pod.uid", cfg.Metadata.Uid), attribute.String("k8s.pod.name", cfg.Metadata.Name)))
	defer func() { telemetry.End(span, err) }()
	r, err := call(ctx, c, "run_podsandbox", c.rt.RunPodSandbox, &cri.RunPodSandboxRequest{Config: cfg, RuntimeHandler: handler})
	if err != nil {
		return "", fmt.Errorf("cannot create sandbox for pod \"%s/%s\": %w", cfg.Metadata.Namespace, cfg.Metadata.Name, err)
	}
	return r.PodSandboxId, nil
}

// StopSandbox stops a sandbox and everything in it, and frees its network.
func (c *CRI) StopSandbox(ctx context.Context, id string) (err error) {
	ctx, span := c.tel.Tracer.Start(ctx, "stop sandbox", trace.WithAttributes(attribute.String("sandbox.id", id)))
	defer func() { telemetry.End(span, err) }()
	if _, err = call(ctx, c, "stop_podsandbox", c.rt.StopPodSandbox, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("cannot stop sandbox %q: %w", id, err)
	}
	return nil
}

// RemoveSandbox removes a stopped sandbox with its containers.
func (c *CRI) RemoveSandbox(ctx context.Context, id string) error {
	if _, err := call(ctx, c, "remove_podsandbox", c.rt.RemovePodSandbox, &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("cannot remove sandbox %q: %w", id, err)
	}
	c.seen.forgetSandbox(id)
	return nil
}

// CreateContainer creates a container in a sandbox and returns its ID.
func (c *CRI) CreateContainer(ctx context.Context, sandbox string, sc *cri.PodSandboxConfig, cc *cri.ContainerConfig) (id string, err error) {
	ctx, span := c.tel.Tracer.Start(ctx, "create container", trace.WithAttributes(attribute.String("k8s.container.name", cc.Metadata.Name)))
	defer func() { telemetry.End(span, err) }()
	r, err := call(ctx, c, "create_container", c.rt.CreateContainer, &cri.CreateContainerRequest{
		PodSandboxId: sandbox, Config: cc, SandboxConfig: sc,
	})
	if err != nil {
		return "", fmt.Errorf("cannot create container %q: %w", cc.Metadata.Name, err)
	}
	return r.ContainerId, nil
}

// StartContainer starts a created container.
func (c *CRI) StartContainer(ctx context.Context, id string) (err error) {
	ctx, span := c.tel.Tracer.Start(ctx, "start container", trace.WithAttributes(attribute.String("container.id", id)))
	defer func() { telemetry.End(span, err) }()
	if _, err = call(ctx, c, "start_container", c.rt.StartContainer, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("cannot start container %q: %w", id, err)
	}
	return nil
}

// StopContainer sends the stop signal and, after grace, kills.
func (c *CRI) StopContainer(ctx context.Context, id string, grace time.Duration) (err error) {
	ctx, span := c.tel.Tracer.Start(ctx, "stop container", trace.WithAttributes(
		attribute.String("container.id", id), attribute.Int64("grace_seconds", int64(grace/time.Second))))
	defer func() { telemetry.End(span, err) }()
	if _, err = call(ctx, c, "stop_container", c.rt.StopContainer, &cri.StopContainerRequest{
		ContainerId: id, Timeout: int64(grace / time.Second),
	}); err != nil {
		return fmt.Errorf("cannot stop container %q: %w", id, err)
	}
	return nil
}

// RemoveContainer removes a container that does not run.
func (c *CRI) RemoveContainer(ctx context.Context, id string) error {
	if _, err := call(ctx, c, "remove_container", c.rt.RemoveContainer, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		return fmt.Errorf("cannot remove container %q: %w", id, err)
	}
	c.seen.forgetContainer(id)
	return nil
}

// UpdateContainer changes the resources of a running container.
func (c *CRI) UpdateContainer(ctx context.Context, id string, res *cri.LinuxContainerResources) error {
	_, err := call(ctx, c, "update_container", c.rt.UpdateContainerResources, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: res})
	return err
}

// ReopenLog makes the runtime open the container's log file anew.
func (c *CRI) ReopenLog(ctx context.Context, id string) error {
	_, err := call(ctx, c, "reopen_container_log", c.rt.ReopenContainerLog, &cri.ReopenContainerLogRequest{ContainerId: id})
	return err
}

// Exec runs a command in a container to its end. A zero timeout is none. A
// command that ran too long is an error with ErrExecTimeout.
func (c *CRI) Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (ExecResult, error) {
	r, err := call(ctx, c, "exec_sync", c.rt.ExecSync, &cri.ExecSyncRequest{
		ContainerId: id, Cmd: cmd, Timeout: int64((timeout + time.Second - 1) / time.Second),
	})
	if err != nil {
		if status.Code(unwrapStatus(err)) == codes.DeadlineExceeded {
			return ExecResult{}, fmt.Errorf("command %q %w", cmd, ErrExecTimeout)
		}
		return ExecResult{}, err
	}
	return ExecResult{ExitCode: r.ExitCode, Stdout: r.Stdout, Stderr: r.Stderr}, nil
}

// ExecURL, AttachURL and PortForwardURL return where the runtime serves the
// streams of the request, once.
func (c *CRI) ExecURL(ctx context.Context, r *cri.ExecRequest) (string, error) {
	a, err := call(ctx, c, "exec", c.rt.Exec, r)
	return a.GetUrl(), err
}

// AttachURL: see ExecURL.
func (c *CRI) AttachURL(ctx context.Context, r *cri.AttachRequest) (string, error) {
	a, err := call(ctx, c, "attach", c.rt.Attach, r)
	return a.GetUrl(), err
}

// PortForwardURL: see ExecURL.
func (c *CRI) PortForwardURL(ctx context.Context, r *cri.PortForwardRequest) (string, error) {
	a, err := call(ctx, c, "port_forward", c.rt.PortForward, r)
	return a.GetUrl(), err
}

// Events calls changed for every pod the runtime reports an event of, until
// ctx or the stream ends. ready is called once the stream stands.
func (c *CRI) Events(ctx context.Context, ready func(), changed func(PodID)) error {
	stream, err := c.rt.GetContainerEvents(ctx, &cri.GetEventsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("cannot open the runtime's event stream: %w", err)
	}
	ready()
	for {
		ev, err := stream.Recv()
		if err == io.EOF {
			return fmt.Errorf("cannot read the runtime's event stream: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return fmt.Errorf("cannot read the runtime's event stream: %w", err)
		}
		if m := ev.GetPodSandboxStatus().GetMetadata(); m != nil {
			changed(podID(m))
		}
	}
}
