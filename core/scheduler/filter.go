package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Filter says whether a pod may go to a node. prepare, once per pod, returns
// the check, or nil when every node passes. The check returns the reasons that
// speak against the node, in upstream's words.
type Filter struct {
	Name    string
	Prepare func(pod *podInfo, c *Picture) func(*Node) []string
}

// Filters returns upstream's default filters, cheap ones first.
func Filters() []Filter {
	return []Filter{
		{"NodeUnschedulable", nodeUnschedulable},
		{"NodeName", nodeName},
		{"TaintToleration", taintToleration},
		{"NodeAffinity", nodeAffinity},
		{"VolumeBinding", volumeBinding},
		{"NodePorts", nodePorts},
		{"NodeResourcesFit", nodeResourcesFit},
		{"PodTopologySpread", topologySpread},
		{"InterPodAffinity", interPodAffinity},
	}
}

var unschedulableTaint = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func nodeUnschedulable(pod *podInfo, _ *Picture) func(*Node) []string {
	if corev1helpers.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, &unschedulableTaint, false) {
		return nil
	}
	return func(n *Node) []string {
		if n.Spec.Unschedulable {
			return []string{"node(s) were unschedulable"}
		}
		return nil
	}
}

func nodeName(pod *podInfo, _ *Picture) func(*Node) []string {
	if pod.Spec.NodeName == "" {
		return nil
	}
	return func(n *Node) []string {
		if n.Name != pod.Spec.NodeName {
			return []string{"node(s) didn't match the requested node name"}
		}
		return nil
	}
}

func taintToleration(pod *podInfo, _ *Picture) func(*Node) []string {
	hard := func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}
	return func(n *Node) []string {
		t, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, pod.Spec.Tolerations, hard, false)
		if untolerated {
			return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value)}
		}
		return nil
	}
}

func nodeAffinity(pod *podInfo, _ *Picture) func(*Node) []string {
	a := pod.Spec.Affinity
	if len(pod.Spec.NodeSelector) == 0 && (a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil) {
		return nil
	}
	required := nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	return func(n *Node) []string {
		if ok, err := required.Match(n.Node); err != nil || !ok {
			return []string{"node(s) didn't match Pod's node affinity/selector"}
		}
		return nil
	}
}

// volumeBinding refuses what cannot be bound yet, rather than to start a pod
// that waits for its volume for ever.
func volumeBinding(pod *podInfo, _ *Picture) func(*Node) []string {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return func(*Node) []string {
				return []string{fmt.Sprintf("node(s) cannot bind volume %q: PersistentVolumeClaims are not supported yet", v.Name)}
			}
		}
	}
	return nil
}

func nodePorts(pod *podInfo, _ *Picture) func(*Node) []string {
	if len(pod.ports) == 0 {
		return nil
	}
	return func(n *Node) []string {
		for _, other := range n.pods {
			for _, have := range other.ports {
				if slices.ContainsFunc(pod.ports, have.conflicts) {
					return []string{"node(s) didn't have free ports for the requested pod ports"}
				}
			}
		}
		return nil
	}
}

func (a hostPort) conflicts(b hostPort) bool {
	return a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || a.ip == "0.0.0.0" || b.ip == "0.0.0.0")
}

func nodeResourcesFit(pod *podInfo, _ *Picture) func(*Node) []string {
	return func(n *Node) (reasons []string) {
		if int64(len(n.pods)) >= n.capacity[corev1.ResourcePods] {
			reasons = append(reasons, "Too many pods")
		}
		for name, want := range pod.requests {
			if want > 0 && n.requests[name]+want > n.capacity[name] {
				reasons = append(reasons, fmt.Sprintf("Insufficient %s", name))
			}
		}
		slices.Sort(reasons)
		return reasons
	}
}
