package node

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	goruntime "runtime"

	"golang.org/x/sys/unix"

	"binnacle.io/core/client"
	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
)

const (
	leaseNamespace = "kube-node-lease"
	leaseSeconds   = 40
	leaseRenew     = 10 * time.Second
	// conditionsEvery is how often the node's conditions are looked at,
	// reportEvery how often an unchanged status is written.
	conditionsEvery = 10 * time.Second
	unreadyEvery    = 250 * time.Millisecond
	// A new pod waits so long, asking so often, for the network.
	networkPatience = 10 * time.Second
	networkPoll     = 50 * time.Millisecond
	reportEvery     = 5 * time.Minute
	maxImages       = 50
)

// health is what the agent knows of the runtime's.
type health struct {
	mu     sync.Mutex
	relist error // guarded by mu
	// network was up at some time, ready is the last Ready condition, events
	// is whether the event stream stands; guarded by mu.
	network, ready, events bool
}

func newHealth() *health { return &health{} }

func (h *health) setRelist(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.relist = err
}

func (h *health) setEvents(ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = ok
}

func (h *health) seesEvents() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

func (h *health) setNetwork() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.network = true
}

func (h *health) networkSeen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.network
}

func (h *health) setReady(ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = ok
}

func (h *health) isReady() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready
}

func (h *health) lastRelist() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.relist
}

// register makes the Node object, or takes over an earlier one. It tries until
// it succeeds or ctx ends.
func (a *Agent) register(ctx context.Context) error {
	for delay := apiRetryBase; ; delay = min(2*delay, apiRetryMax) {
		err := a.registerOnce(ctx)
		if err == nil {
			return nil
		}
		a.tel.Log.Warn("cannot register node", "node", a.cfg.Name, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

func (a *Agent) registerOnce(ctx context.Context) error {
	if _, err := a.Addr(ctx); err != nil {
		return err
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Name, Labels: a.labels(), Annotations: map[string]string{
			"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
		Spec: corev1.NodeSpec{Taints: a.cfg.Taints},
	}
	for k, v := range a.cfg.Labels {
		n.Labels[k] = v
	}
	// With its status at once, so that the node is not unready for a moment.
	status := a.nodeStatus(ctx, corev1.NodeStatus{})
	n.Status = status
	_, err := client.Create(ctx, a.client, n)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot create node %q: %w", a.cfg.Name, err)
	}
	if err != nil {
		_, err = client.Modify(ctx, a.client, "", a.cfg.Name, "", func(n *corev1.Node) (bool, error) {
			changed := false
			for k, v := range a.labels() {
				if n.Labels[k] != v {
					if n.Labels == nil {
						n.Labels = map[string]string{}
					}
					n.Labels[k], changed = v, true
				}
			}
			return changed, nil
		})
		if err != nil {
			return fmt.Errorf("cannot take over node %q: %w", a.cfg.Name, err)
		}
	}
	if err := a.writeNodeStatus(ctx); err != nil {
		return err
	}
	a.nodeEvent(corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	return nil
}

func (a *Agent) labels() map[string]string {
	return map[string]string{
		corev1.LabelHostname: a.cfg.Name, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
		"beta.kubernetes.io/os": goruntime.GOOS, "beta.kubernetes.io/arch": goruntime.GOARCH,
	}
}

// nodeEvent records an event on the node. Its UID is the node's name, upstream's
// way, by which kubectl finds it.
func (a *Agent) nodeEvent(kind, reason, message string) {
	a.events.EventRef(corev1.ObjectReference{Kind: "Node", Name: a.cfg.Name, UID: types.UID(a.cfg.Name), APIVersion: "v1"}, kind, reason, "%s", message)
}

// heartbeat writes the node's status when it changes, and every five minutes.
// A node that is not ready is looked at more often: pods wait for it.
func (a *Agent) heartbeat(ctx context.Context) error {
	for {
		every := conditionsEvery
		if !a.health.isReady() {
			every = unreadyEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
		err := a.writeNodeStatus(ctx)
		if apierrors.IsNotFound(err) { // somebody deleted it; the node is here
			err = a.registerOnce(ctx)
		}
		if err != nil && ctx.Err() == nil {
			a.tel.Log.Warn("cannot write node status", "error", err)
		}
	}
}

// awaitNetwork waits a while for the runtime's pod network to come up. Once it
// has been up, it is not asked again.
func (a *Agent) awaitNetwork(ctx context.Context) error {
	if a.health.networkSeen() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, networkPatience)
	defer cancel()
	for {
		h, err := a.runtime.Health(ctx)
		if err == nil && h.Network.OK {
			a.health.setNetwork()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("network is not ready: container runtime network not ready: NetworkReady=false reason:%s message:%s", h.Network.Reason, h.Network.Message)
		case <-time.After(networkPoll):
		}
	}
}

func (a *Agent) writeNodeStatus(ctx context.Context) error {
	cur, err := client.GetCached[*corev1.Node](ctx, a.client, "", a.cfg.Name)
	if err != nil {
		return fmt.Errorf("cannot read node %q: %w", a.cfg.Name, err)
	}
	if !a.nodeStatusDue(cur, a.nodeStatus(ctx, cur.Status)) {
		return nil
	}
	_, err = client.Modify(ctx, a.client, "", a.cfg.Name, "status", func(n *corev1.Node) (bool, error) {
		before := readyOf(n.Status)
		n.Status = a.nodeStatus(ctx, n.Status)
		if after := readyOf(n.Status); before != "" && before != after {
			reason := "NodeReady"
			if after != corev1.ConditionTrue {
				reason = "NodeNotReady"
			}
			a.nodeEvent(corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", a.cfg.Name, reason))
		}
		return true, nil
	})
	return err
}

func readyOf(st corev1.NodeStatus) corev1.ConditionStatus {
	for _, c := range st.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// nodeStatusDue reports whether a status differs from the stored one in more
// than heartbeats, or the last heartbeat is old.
func (a *Agent) nodeStatusDue(cur *corev1.Node, next corev1.NodeStatus) bool {
	old := *cur.Status.DeepCopy()
	oldest := time.Now()
	for i := range old.Conditions {
		c := &old.Conditions[i]
		if slices.ContainsFunc(next.Conditions, func(n corev1.NodeCondition) bool { return n.Type == c.Type }) && c.LastHeartbeatTime.Time.Before(oldest) {
			oldest = c.LastHeartbeatTime.Time
		}
		c.LastHeartbeatTime = metav1.Time{}
	}
	for i := range next.Conditions {
		next.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return time.Since(oldest) >= reportEvery || !apiequality.Semantic.DeepEqual(old, next)
}

// nodeStatus computes the node's status over an earlier one.
func (a *Agent) nodeStatus(ctx context.Context, st corev1.NodeStatus) corev1.NodeStatus {
	st = *st.DeepCopy()
	st.Capacity, st.Allocatable, st.NodeInfo = a.machine.capacity, a.machine.allocatable, a.machine.info
	st.Addresses = nil
	for _, ip := range a.cfg.NodeIPs {
		st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	st.Addresses = append(st.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.cfg.Name})
	st.DaemonEndpoints.KubeletEndpoint.Port = int32(a.port())
	if imgs, err := a.runtime.Images(ctx); err == nil {
		st.Images = imageList(imgs)
	}
	st.RuntimeHandlers = []corev1.NodeRuntimeHandler{{Name: "", Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: ptr(true), UserNamespaces: ptr(false)}}}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for _, c := range a.conditions(ctx) {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		i := slices.IndexFunc(st.Conditions, func(o corev1.NodeCondition) bool { return o.Type == c.Type })
		if i < 0 {
			st.Conditions = append(st.Conditions, c)
			continue
		}
		if st.Conditions[i].Status == c.Status {
			c.LastTransitionTime = st.Conditions[i].LastTransitionTime
		}
		st.Conditions[i] = c
	}
	return st
}

func ptr[T any](v T) *T { return &v }

// imageList is the largest images first, as upstream shows them.
func imageList(imgs []runtime.Image) []corev1.ContainerImage {
	sort.Slice(imgs, func(i, j int) bool {
		if imgs[i].Size != imgs[j].Size {
			return imgs[i].Size > imgs[j].Size
		}
		return imgs[i].ID < imgs[j].ID
	})
	var out []corev1.ContainerImage
	for _, img := range imgs[:min(len(imgs), maxImages)] {
		names := append(slices.Clone(img.Digests), img.Tags...)
		slices.Sort(names)
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), 5)], SizeBytes: int64(img.Size)})
	}
	return out
}

// Below these the node reports pressure; upstream's eviction thresholds.
const (
	leastMemory    = 100 << 20 // bytes
	leastDiskShare = 10        // percent of the file system
	leastInodes    = 5         // percent
	leastPIDs      = 100
)

func (a *Agent) conditions(ctx context.Context) []corev1.NodeCondition {
	cond := func(t corev1.NodeConditionType, bad bool, yes, yesMsg, no, noMsg string) corev1.NodeCondition {
		if bad {
			return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: yes, Message: yesMsg}
		}
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: no, Message: noMsg}
	}
	return []corev1.NodeCondition{
		cond(corev1.NodeMemoryPressure, memoryPressure(), "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		cond(corev1.NodeDiskPressure, diskPressure(a.cfg.DataDir), "KubeletHasDiskPressure", "kubelet has disk pressure",
			"KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		cond(corev1.NodePIDPressure, pidPressure(), "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		a.readyCondition(ctx),
	}
}

func (a *Agent) readyCondition(ctx context.Context) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady"}
	hctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h, err := a.runtime.Health(hctx)
	switch {
	case err != nil:
		c.Message = "container runtime is down: " + runtime.Detail(err)
	case !h.Runtime.OK:
		c.Message = fmt.Sprintf("container runtime not ready: %s: %s", h.Runtime.Reason, h.Runtime.Message)
	case !h.Network.OK:
		c.Message = fmt.Sprintf("container runtime network not ready: NetworkReady=false reason:%s message:%s", h.Network.Reason, h.Network.Message)
	case a.health.lastRelist() != nil:
		c.Message = "PLEG is not healthy: " + a.health.lastRelist().Error()
	default:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"
	}
	a.health.setReady(c.Status == corev1.ConditionTrue)
	return c
}

func memoryPressure() bool {
	m, err := memInfo()
	return err == nil && m["MemAvailable"] < leastMemory
}

func diskPressure(dir string) bool {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Blocks == 0 {
		return false
	}
	return s.Bavail*100 < s.Blocks*leastDiskShare || s.Files > 0 && s.Ffree*100 < s.Files*leastInodes
}

func pidPressure() bool {
	limit, err := strconv.Atoi(readTrimmed("/proc/sys/kernel/pid_max"))
	if err != nil {
		return false
	}
	var info unix.Sysinfo_t
	return unix.Sysinfo(&info) == nil && limit-int(info.Procs) < leastPIDs
}

// lease renews the node's Lease, by which the cluster knows it is alive.
func (a *Agent) lease(ctx context.Context) error {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	var held *coordinationv1.Lease
	failures := 0
	for {
		next, err := a.renewLease(ctx, held)
		held = next
		if err != nil && ctx.Err() == nil {
			a.tel.Log.Warn("cannot renew node lease", "error", err)
			failures++
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(podstate.Doubling(apiRetryBase, leaseRenew, failures)):
				continue
			}
		}
		failures = 0
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renewLease updates the lease in place from its last answer; it reads it anew
// only when that was refused.
func (a *Agent) renewLease(ctx context.Context, held *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	now := metav1.NewMicroTime(time.Now())
	if held != nil {
		l := held.DeepCopy()
		l.Spec.RenewTime = &now
		got, err := client.Update(ctx, a.client, l)
		if err == nil {
			return got, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return held, err
		}
	}
	cur, err := client.Get[*coordinationv1.Lease](ctx, a.client, leaseNamespace, a.cfg.Name)
	if apierrors.IsNotFound(err) {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: a.cfg.Name}}
		a.fillLease(ctx, l, now)
		return client.Create(ctx, a.client, l)
	}
	if err != nil {
		return nil, err
	}
	l := cur.DeepCopy()
	a.fillLease(ctx, l, now)
	return client.Update(ctx, a.client, l)
}

func (a *Agent) fillLease(ctx context.Context, l *coordinationv1.Lease, now metav1.MicroTime) {
	l.Spec.HolderIdentity = &a.cfg.Name
	l.Spec.LeaseDurationSeconds = ptr(int32(leaseSeconds))
	l.Spec.RenewTime = &now
	if n, err := client.GetCached[*corev1.Node](ctx, a.client, "", a.cfg.Name); err == nil {
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
	}
}
