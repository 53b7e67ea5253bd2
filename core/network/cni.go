package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"binnacle.io/core/telemetry"
)

// Request is what the plugin sends: one JSON object a connection.
type Request struct {
	// Env holds the CNI_* variables.
	Env map[string]string `json:"env"`
	// Config is the plugin's standard input.
	Config json.RawMessage `json:"config"`
}

// Response is what the server answers. Result goes to the plugin's standard
// output as it is; Failed makes the plugin exit with 1.
type Response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Failed bool            `json:"failed,omitempty"`
}

// versions of the CNI specification this server speaks, newest last. It can
// also answer in older formats, which only lack what it does not use.
func versions() []string { return []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} }

// conf is the part of the plugin configuration that matters here.
type conf struct {
	CNIVersion    string `json:"cniVersion"`
	Name          string `json:"name"`
	RuntimeConfig struct {
		PortMappings []HostPort `json:"portMappings"`
	} `json:"runtimeConfig"`
	ValidAttachments []types.GCAttachment `json:"cni.dev/valid-attachments"`
}

// call is one CNI operation.
type call struct {
	Attachment
	conf                  conf
	namespace             string
	podNamespace, podName string
}

// parseCall reads a request. The error is a *types.Error.
func parseCall(r Request) (string, call, error) {
	verb := r.Env["CNI_COMMAND"]
	var c call
	if err := json.Unmarshal(r.Config, &c.conf); err != nil {
		return verb, c, types.NewError(types.ErrDecodingFailure, "cannot read network configuration", err.Error())
	}
	if c.conf.CNIVersion == "" {
		c.conf.CNIVersion = "0.3.0"
	}
	if verb != "VERSION" && !slices.Contains(versions(), c.conf.CNIVersion) {
		return verb, c, types.NewError(types.ErrIncompatibleCNIVersion, "incompatible CNI version", fmt.Sprintf("configuration says %q, this plugin speaks %s", c.conf.CNIVersion, strings.Join(versions(), ", ")))
	}
	c.ContainerID, c.IfName, c.namespace = r.Env["CNI_CONTAINERID"], r.Env["CNI_IFNAME"], r.Env["CNI_NETNS"]
	for _, pair := range strings.Split(r.Env["CNI_ARGS"], ";") {
		switch k, v, _ := strings.Cut(pair, "="); k {
		case "K8S_POD_NAMESPACE":
			c.podNamespace = v
		case "K8S_POD_NAME":
			c.podName = v
		}
	}
	var missing []string
	need := func(name, value string) {
		if value == "" {
			missing = append(missing, name)
		}
	}
	switch verb {
	case "ADD", "CHECK":
		need("CNI_NETNS", c.namespace)
		fallthrough
	case "DEL":
		need("CNI_CONTAINERID", c.ContainerID)
		need("CNI_IFNAME", c.IfName)
	case "GC", "STATUS", "VERSION":
	default:
		return verb, c, types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("unknown CNI_COMMAND %q", verb), "")
	}
	if len(missing) > 0 {
		return verb, c, types.NewError(types.ErrInvalidEnvironmentVariables, strings.Join(missing, ", ")+" missing", "")
	}
	if len(c.IfName) > 15 || strings.ContainsAny(c.IfName, "/: \t\n") {
		return verb, c, types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_IFNAME %q is not an interface name", c.IfName), "")
	}
	for _, p := range c.conf.RuntimeConfig.PortMappings {
		if _, err := protocol(p.Protocol); err != nil {
			return verb, c, types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
		}
		if p.HostIP == "" {
			continue
		}
		if ip, err := netip.ParseAddr(p.HostIP); err != nil || !ip.Is4() {
			return verb, c, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("hostIP %q is not an IPv4 address", p.HostIP), "")
		}
	}
	return verb, c, nil
}

// serve answers one request. It never fails: errors are CNI errors.
func (n *Network) serve(ctx context.Context, r Request) Response {
	start := time.Now()
	verb, c, err := parseCall(r)
	if n.podTrace != nil && c.podName != "" {
		ctx = telemetry.WithTraceparent(ctx, n.podTrace(ctx, c.podNamespace, c.podName))
	}
	ctx, span := n.tel.Tracer.Start(ctx, "CNI "+spanVerb(verb), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("k8s.namespace.name", c.podNamespace),
		attribute.String("k8s.pod.name", c.podName),
		attribute.String("container.id", c.ContainerID),
	))
	var result any
	if err == nil {
		result, err = n.operate(ctx, span, verb, c)
	}
	telemetry.End(span, err)
	failure := asCNIError(err)
	n.metrics.observe(spanVerb(verb), failure, time.Since(start))
	if failure != nil {
		n.tel.Log.ErrorContext(ctx, "cni operation failed", "operation", verb, "namespace", c.podNamespace, "pod", c.podName, "container", c.ContainerID, "error", failure)
		result = struct {
			CNIVersion string `json:"cniVersion"`
			*types.Error
		}{c.conf.CNIVersion, failure}
	}
	if result == nil {
		return Response{}
	}
	body, err := json.Marshal(result)
	if err != nil {
		return Response{Failed: true, Result: json.RawMessage(`{"code":999,"msg":"cannot encode result"}`)}
	}
	return Response{Result: body, Failed: failure != nil}
}

// spanVerb bounds what a caller can put into names.
func spanVerb(verb string) string {
	switch verb {
	case "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION":
		return verb
	}
	return "unknown"
}

func (n *Network) operate(ctx context.Context, span trace.Span, verb string, c call) (any, error) {
	if verb == "VERSION" {
		return map[string]any{"cniVersion": c.conf.CNIVersion, "supportedVersions": versions()}, nil
	}
	st := n.state.Load()
	if st == nil {
		if verb == "STATUS" {
			return nil, types.NewError(types.ErrPluginNotAvailable, "pod network is not ready", "node "+n.cfg.Node+" has no pod CIDR yet")
		}
		return nil, types.NewError(types.ErrTryAgainLater, "pod network is not ready", "node "+n.cfg.Node+" has no pod CIDR yet")
	}
	switch verb {
	case "ADD":
		l, err := n.add(st, c)
		if err != nil {
			return nil, err
		}
		span.SetAttributes(attribute.String("network.local.address", l.Address.String()))
		return n.result(st, l).GetAsVersion(c.conf.CNIVersion)
	case "DEL":
		return nil, n.del(st, c.Attachment)
	case "CHECK":
		return nil, n.check(st, c)
	case "GC":
		return nil, n.gc(ctx, st, c.conf.ValidAttachments)
	}
	return nil, nil // STATUS: ready
}

func (n *Network) add(st *state, c call) (*Lease, error) {
	defer n.lock(c.Attachment)()
	st.repair.RLock()
	defer st.repair.RUnlock()
	if old := st.pool.lease(c.Attachment); old != nil {
		if err := st.nat.shut(old); err != nil {
			return nil, err
		}
	}
	l, err := st.pool.acquire(Lease{
		Attachment: c.Attachment, Namespace: c.namespace, HostInterface: hostInterface(c.Attachment),
		PodNamespace: c.podNamespace, PodName: c.podName, HostPorts: c.conf.RuntimeConfig.PortMappings, Created: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	if _, err = st.host.plug(st.bridge, l, st.pool.gateway(), st.mtu); err == nil {
		err = st.nat.open(l)
	}
	if err != nil {
		// The lease goes last and only when its link is gone.
		return nil, errors.Join(err, n.unplug(st, l))
	}
	n.forgetFlows(st, staleFlows{lease: l})
	return l, nil
}

// forgetFlows makes clients of UDP host ports find the pod that has them now. A
// failure keeps no pod from starting or going: flows that are not used end by
// themselves.
func (n *Network) forgetFlows(st *state, s staleFlows) {
	if err := st.host.forgetFlows(s); err != nil {
		n.tel.Log.Warn("cannot forget stale flows", "pod", s.lease.PodName, "namespace", s.lease.PodNamespace, "error", err)
	}
}

// unplug undoes add. The caller holds the attachment's lock.
func (n *Network) unplug(st *state, l *Lease) error {
	if err := st.nat.shut(l); err != nil {
		return err
	}
	n.forgetFlows(st, staleFlows{lease: l, closing: true})
	if err := st.host.removeLink(l.HostInterface); err != nil {
		return err
	}
	return st.pool.release(l.Attachment)
}

func (n *Network) del(st *state, a Attachment) error {
	defer n.lock(a)()
	st.repair.RLock()
	defer st.repair.RUnlock()
	l := st.pool.lease(a)
	if l == nil {
		return st.host.removeLink(hostInterface(a))
	}
	return n.unplug(st, l)
}

func (n *Network) check(st *state, c call) error {
	defer n.lock(c.Attachment)()
	l := st.pool.lease(c.Attachment)
	if l == nil {
		return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("container %s has no interface %s", c.ContainerID, c.IfName), "")
	}
	return st.host.check(st.bridge, l, st.pool.gateway())
}

// gc releases what is not among the valid attachments.
func (n *Network) gc(ctx context.Context, st *state, valid []types.GCAttachment) error {
	keep := map[Attachment]bool{}
	for _, v := range valid {
		keep[Attachment{v.ContainerID, v.IfName}] = true
	}
	var errs []error
	for _, l := range st.pool.leases() {
		if !keep[l.Attachment] {
			n.tel.Log.InfoContext(ctx, "releasing leaked address", "address", l.Address, "container", l.ContainerID, "pod", l.PodName)
			errs = append(errs, n.del(st, l.Attachment))
		}
	}
	return errors.Join(errs...)
}

func (n *Network) result(st *state, l *Lease) *current.Result {
	inSandbox := 2
	res := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: st.bridge.Attrs().Name, Mac: macOf(st.pool.gateway()).String()},
			{Name: l.HostInterface},
			{Name: l.IfName, Mac: macOf(l.Address).String(), Sandbox: l.Namespace, Mtu: st.mtu},
		},
		IPs: []*current.IPConfig{{Interface: &inSandbox, Address: *hostNet(l.Address), Gateway: st.pool.gateway().AsSlice()}},
	}
	for _, r := range routes(0, st.pool.gateway()) {
		res.Routes = append(res.Routes, &types.Route{Dst: *r.Dst, GW: r.Gw})
	}
	return res
}

// asCNIError classifies an error for the container runtime.
func asCNIError(err error) *types.Error {
	var cni *types.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &cni):
		return cni
	case errors.As(err, new(namespaceError)):
		return types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	case errors.As(err, new(portTakenError)):
		return types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	case errors.Is(err, errExhausted):
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}
