package nodelifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

const (
	// gracePeriod is how long a node may be silent: upstream's
	// node-monitor-grace-period.
	gracePeriod    = 40 * time.Second
	leaseNamespace = corev1.NamespaceNodeLease
)

var (
	nodesResource = client.Resource{Resource: "nodes"}
	podsResource  = client.Resource{Resource: "pods"}
)

// New returns the controller of nodes' conditions and taints.
func New() controller.Controller {
	return controller.Controller{
		Name:    "node-lifecycle",
		Account: "node-controller",
		Inputs: []controller.Input{
			{Resource: nodesResource, Keys: controller.Self},
			{Resource: client.Resource{Group: coordv1.GroupName, Resource: "leases"},
				Read: client.ReadOptions{Namespace: leaseNamespace},
				Keys: func(_ controller.State, o client.Object) []client.Key { return []client.Key{{Name: o.GetName()}} }},
		},
		Writes: []string{"nodes/status of silent nodes", "nodes taints", "pods/status of silent nodes"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			n, ok := controller.Get[*corev1.Node](s, "", key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return planNode(s, n), nil
		},
	}
}

func planNode(s controller.State, n *corev1.Node) (p controller.Plan) {
	left := lastSeen(s, n).Add(gracePeriod).Sub(s.Now())
	view := n
	if left > 0 {
		p.Again(left)
	} else if next := silenced(n, s.Now()); next != nil {
		view = next
		p.Add(controller.Status(next),
			controller.Event(n, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", n.Name))
		for _, pod := range controller.List[*corev1.Pod](s, "") {
			if pod.Spec.NodeName == n.Name && controller.PodReady(pod) {
				p.Add(controller.Status(notReady(pod, s.Now())))
			}
		}
	}
	taints := taintsFor(view, s.Now())
	if !equality.Semantic.DeepEqual(taints, n.Spec.Taints) {
		// A patch of the taints alone: others write the node's spec too.
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": n.UID}, "spec": map[string]any{"taints": taints}})
		if err != nil {
			panic(err) // of an API type
		}
		p.Add(controller.Patch(n, "", types.MergePatchType, body))
	}
	return p
}

// lastSeen is when the node's agent last wrote its lease or status.
func lastSeen(s controller.State, n *corev1.Node) time.Time {
	seen := n.CreationTimestamp.Time
	if l, ok := controller.Get[*coordv1.Lease](s, leaseNamespace, n.Name); ok && l.Spec.RenewTime != nil && l.Spec.RenewTime.After(seen) {
		seen = l.Spec.RenewTime.Time
	}
	if c := condition(n, corev1.NodeReady); c != nil && c.LastHeartbeatTime.After(seen) {
		seen = c.LastHeartbeatTime.Time
	}
	return seen
}

// silenced returns the node with unknown conditions, or nil when it has them.
func silenced(n *corev1.Node, now time.Time) *corev1.Node {
	next := n.DeepCopy()
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		c := condition(next, t)
		switch {
		case c == nil:
			next.Status.Conditions = append(next.Status.Conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message:           "Kubelet never posted node status.",
				LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
			})
		case c.Status != corev1.ConditionUnknown:
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		}
	}
	if equality.Semantic.DeepEqual(next.Status, n.Status) {
		return nil
	}
	return next
}

func notReady(pod *corev1.Pod, now time.Time) *corev1.Pod {
	next := pod.DeepCopy()
	c := controller.PodCondition(next, corev1.PodReady)
	c.Status, c.Reason, c.Message = corev1.ConditionFalse, "NodeNotReady", "Node is not ready"
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	return next
}

func condition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// managed are the taints that follow from conditions.
var managed = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable, corev1.TaintNodeMemoryPressure,
	corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable,
}

// taintsFor returns the node's taints: those of others as they are, and those
// its conditions ask for.
func taintsFor(n *corev1.Node, now time.Time) []corev1.Taint {
	var want []corev1.Taint
	for _, t := range n.Spec.Taints {
		if !slices.Contains(managed, t.Key) {
			want = append(want, t)
		}
	}
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Taint{Key: key, Effect: effect}
		if i := slices.IndexFunc(n.Spec.Taints, func(o corev1.Taint) bool { return o.Key == key && o.Effect == effect }); i >= 0 {
			t = n.Spec.Taints[i] // keeps the time since when
		}
		if t.TimeAdded == nil && effect == corev1.TaintEffectNoExecute {
			at := metav1.NewTime(now.Truncate(time.Second))
			t.TimeAdded = &at
		}
		want = append(want, t)
	}
	status := func(t corev1.NodeConditionType) corev1.ConditionStatus {
		if c := condition(n, t); c != nil {
			return c.Status
		}
		return ""
	}
	switch status(corev1.NodeReady) {
	case corev1.ConditionTrue:
	case corev1.ConditionUnknown:
		add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule)
		add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	default:
		add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule)
		if status(corev1.NodeReady) == corev1.ConditionFalse {
			add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
		}
	}
	for _, c := range []struct {
		condition corev1.NodeConditionType
		taint     string
	}{
		{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure},
		{corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure},
		{corev1.NodePIDPressure, corev1.TaintNodePIDPressure},
		{corev1.NodeNetworkUnavailable, corev1.TaintNodeNetworkUnavailable},
	} {
		if status(c.condition) == corev1.ConditionTrue {
			add(c.taint, corev1.TaintEffectNoSchedule)
		}
	}
	if n.Spec.Unschedulable {
		add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	return want
}

// NewIPAM returns the controller that gives each node its pod CIDR: the first
// free block of bits bits in the cluster's.
func NewIPAM(cluster netip.Prefix, bits int) controller.Controller {
	return controller.Controller{
		Name:    "node-ipam",
		Account: "node-controller",
		Workers: 1, // two nodes must not be given one block
		Inputs:  []controller.Input{{Resource: nodesResource, Keys: controller.Self}},
		Writes:  []string{"nodes podCIDR"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			n, ok := controller.Get[*corev1.Node](s, "", key.Name)
			if !ok || n.Spec.PodCIDR != "" {
				return p, nil
			}
			taken := map[string]bool{}
			for _, o := range controller.List[*corev1.Node](s, "") {
				for _, c := range o.Spec.PodCIDRs {
					taken[c] = true
				}
			}
			block, ok := firstFree(cluster, bits, taken)
			if !ok {
				p.Add(controller.Event(n, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", n.Name))
				return p, fmt.Errorf("cannot give node %q a pod CIDR: all /%d blocks of %s are taken", n.Name, bits, cluster)
			}
			patch := fmt.Sprintf(`{"spec":{"podCIDR":%q,"podCIDRs":[%q]}}`, block, block)
			p.Add(controller.Patch(n, "", types.MergePatchType, []byte(patch)))
			return p, nil
		},
	}
}

func firstFree(cluster netip.Prefix, bits int, taken map[string]bool) (string, bool) {
	for a := cluster.Masked().Addr(); cluster.Contains(a); {
		block := netip.PrefixFrom(a, bits)
		if !taken[block.String()] {
			return block.String(), true
		}
		next, ok := after(block)
		if !ok {
			break
		}
		a = next
	}
	return "", false
}

// after returns the first address behind the block.
func after(block netip.Prefix) (netip.Addr, bool) {
	b := block.Addr().AsSlice()
	bit := block.Bits() - 1
	for i := bit / 8; i >= 0; i-- {
		step := byte(1)
		if i == bit/8 {
			step = 1 << (7 - bit%8)
		}
		sum := int(b[i]) + int(step)
		b[i] = byte(sum)
		if sum < 256 {
			return netip.AddrFromSlice(b)
		}
	}
	return netip.Addr{}, false
}
