package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// spreadCount is one topology spread constraint with the matching pods counted
// per topology value.
type spreadCount struct {
	corev1.TopologySpreadConstraint
	selector labels.Selector
	counts   map[string]int // topology value → pods
	least    int            // fewest of any eligible value
	self     int            // 1 when the pod counts for its own constraint
}

// spreadCounts counts for the constraints that say what to do as when.
func spreadCounts(pod *podInfo, c *Picture, constraints []corev1.TopologySpreadConstraint) []*spreadCount {
	var out []*spreadCount
	required := nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	keys := func(n *Node) bool { // a node without one of the keys is no part of the topology
		return !slices.ContainsFunc(constraints, func(tc corev1.TopologySpreadConstraint) bool { _, ok := n.Labels[tc.TopologyKey]; return !ok })
	}
	for _, tc := range constraints {
		sel, err := metav1.LabelSelectorAsSelector(tc.LabelSelector)
		if err != nil {
			continue // validation refuses it
		}
		for _, key := range tc.MatchLabelKeys {
			if v, ok := pod.Labels[key]; ok {
				if r, err := labels.NewRequirement(key, "in", []string{v}); err == nil {
					sel = sel.Add(*r)
				}
			}
		}
		sc := &spreadCount{TopologySpreadConstraint: tc, selector: sel, counts: map[string]int{}, least: math.MaxInt}
		if sel.Matches(labels.Set(pod.Labels)) {
			sc.self = 1
		}
		for _, n := range c.list {
			if !keys(n) || !sc.eligible(pod, n, required) {
				continue
			}
			value := n.Labels[tc.TopologyKey]
			sc.counts[value] += sc.matching(pod, n)
		}
		for _, v := range sc.counts {
			sc.least = min(sc.least, v)
		}
		if tc.MinDomains != nil && len(sc.counts) < int(*tc.MinDomains) || sc.least == math.MaxInt {
			sc.least = 0
		}
		out = append(out, sc)
	}
	return out
}

// eligible applies nodeAffinityPolicy and nodeTaintsPolicy.
func (sc *spreadCount) eligible(pod *podInfo, n *Node, required nodeaffinity.RequiredNodeAffinity) bool {
	if sc.NodeAffinityPolicy == nil || *sc.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if ok, err := required.Match(n.Node); err != nil || !ok {
			return false
		}
	}
	if sc.NodeTaintsPolicy != nil && *sc.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
		_, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, pod.Spec.Tolerations,
			func(t *corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule }, false)
		return !bad
	}
	return true
}

func (sc *spreadCount) matching(pod *podInfo, n *Node) (count int) {
	if sc.selector.Empty() {
		return 0
	}
	for _, p := range n.pods {
		if p.DeletionTimestamp == nil && p.Namespace == pod.Namespace && sc.selector.Matches(labels.Set(p.Labels)) {
			count++
		}
	}
	return count
}

func constraintsOf(pod *podInfo, when corev1.UnsatisfiableConstraintAction) (out []corev1.TopologySpreadConstraint) {
	for _, tc := range pod.Spec.TopologySpreadConstraints {
		if tc.WhenUnsatisfiable == when {
			out = append(out, tc)
		}
	}
	return out
}

func topologySpread(pod *podInfo, c *Picture) func(*Node) []string {
	hard := constraintsOf(pod, corev1.DoNotSchedule)
	if len(hard) == 0 {
		return nil
	}
	counts := spreadCounts(pod, c, hard)
	return func(n *Node) []string {
		for _, sc := range counts {
			value, ok := n.Labels[sc.TopologyKey]
			if !ok {
				return []string{"node(s) didn't match pod topology spread constraints (missing required label)"}
			}
			if sc.counts[value]+sc.self-sc.least > int(sc.MaxSkew) {
				return []string{"node(s) didn't match pod topology spread constraints"}
			}
		}
		return nil
	}
}
