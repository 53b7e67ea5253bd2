package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// term is a pod affinity term resolved for the pod that carries it.
type term struct {
	key        string
	selector   labels.Selector
	namespaces []string
	inSelector labels.Selector // of namespaces; nil when there is none
	weight     int64
}

func termOf(t *corev1.PodAffinityTerm, carrier *corev1.Pod) (term, bool) {
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		return term{}, false
	}
	for _, key := range t.MatchLabelKeys {
		sel = withKey(sel, key, selection.In, carrier.Labels)
	}
	for _, key := range t.MismatchLabelKeys {
		sel = withKey(sel, key, selection.NotIn, carrier.Labels)
	}
	out := term{key: t.TopologyKey, selector: sel, namespaces: t.Namespaces}
	if t.NamespaceSelector != nil {
		if out.inSelector, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			return term{}, false
		}
	} else if len(t.Namespaces) == 0 {
		out.namespaces = []string{carrier.Namespace}
	}
	return out, true
}

func withKey(sel labels.Selector, key string, op selection.Operator, from map[string]string) labels.Selector {
	v, ok := from[key]
	if !ok {
		return sel
	}
	r, err := labels.NewRequirement(key, op, []string{v})
	if err != nil {
		return sel
	}
	return sel.Add(*r)
}

func (t term) matches(p *corev1.Pod, c *Picture) bool {
	in := slices.Contains(t.namespaces, p.Namespace) ||
		t.inSelector != nil && t.inSelector.Matches(labels.Set(c.namespaces[p.Namespace]))
	return in && t.selector.Matches(labels.Set(p.Labels))
}

func requiredTerms(list []corev1.PodAffinityTerm, carrier *corev1.Pod) (out []term) {
	for i := range list {
		if t, ok := termOf(&list[i], carrier); ok {
			out = append(out, t)
		}
	}
	return out
}

func preferredTerms(list []corev1.WeightedPodAffinityTerm, carrier *corev1.Pod, sign int64) (out []term) {
	for i := range list {
		if t, ok := termOf(&list[i].PodAffinityTerm, carrier); ok {
			t.weight = sign * int64(list[i].Weight)
			out = append(out, t)
		}
	}
	return out
}

func requiredAffinity(p *corev1.Pod) []term {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAffinity == nil {
		return nil
	}
	return requiredTerms(p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, p)
}

func requiredAntiAffinity(p *corev1.Pod) []term {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	return requiredTerms(p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, p)
}

// place is a value of a topology key.
type place struct{ key, value string }

func interPodAffinity(pod *podInfo, c *Picture) func(*Node) []string {
	affinity, anti := requiredAffinity(pod.Pod), requiredAntiAffinity(pod.Pod)
	near := make([]map[place]bool, len(affinity)) // places where term i finds a pod
	for i := range near {
		near[i] = map[place]bool{}
	}
	far, forbidden := map[place]bool{}, map[place]bool{}
	for _, n := range c.list {
		for _, other := range n.pods {
			for _, t := range requiredAntiAffinity(other.Pod) {
				if v, ok := n.Labels[t.key]; ok && t.matches(pod.Pod, c) {
					forbidden[place{t.key, v}] = true
				}
			}
			for _, t := range anti {
				if v, ok := n.Labels[t.key]; ok && t.matches(other.Pod, c) {
					far[place{t.key, v}] = true
				}
			}
			for i, t := range affinity {
				if v, ok := n.Labels[t.key]; ok && t.matches(other.Pod, c) {
					near[i][place{t.key, v}] = true
				}
			}
		}
	}
	// The first pod of a group that wants to be near itself may go anywhere.
	first := len(affinity) > 0
	for i, t := range affinity {
		first = first && len(near[i]) == 0 && t.matches(pod.Pod, c)
	}
	if len(affinity) == 0 && len(far) == 0 && len(forbidden) == 0 {
		return nil
	}
	return func(n *Node) []string {
		for i, t := range affinity {
			v, ok := n.Labels[t.key]
			if !ok || !first && !near[i][place{t.key, v}] {
				return []string{"node(s) didn't match pod affinity rules"}
			}
		}
		for p := range far {
			if n.Labels[p.key] == p.value {
				return []string{"node(s) didn't match pod anti-affinity rules"}
			}
		}
		for p := range forbidden {
			if n.Labels[p.key] == p.value {
				return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
			}
		}
		return nil
	}
}

// affinityScore adds up preferred terms: the pod's own, and those of pods that
// are there already, whose required affinity counts as a preference of 1.
func affinityScore(pod *podInfo, c *Picture) func(*Node) int64 {
	own := preferencesOf(pod.Pod)
	sum := map[place]int64{}
	for _, n := range c.list {
		for _, other := range n.pods {
			for _, t := range own {
				if v, ok := n.Labels[t.key]; ok && t.matches(other.Pod, c) {
					sum[place{t.key, v}] += t.weight
				}
			}
			theirs := preferencesOf(other.Pod)
			for _, t := range requiredAffinity(other.Pod) {
				t.weight = 1
				theirs = append(theirs, t)
			}
			for _, t := range theirs {
				if v, ok := n.Labels[t.key]; ok && t.matches(pod.Pod, c) {
					sum[place{t.key, v}] += t.weight
				}
			}
		}
	}
	if len(sum) == 0 {
		return nil
	}
	return func(n *Node) (score int64) {
		for p, w := range sum {
			if n.Labels[p.key] == p.value {
				score += w
			}
		}
		return score
	}
}

func preferencesOf(p *corev1.Pod) (out []term) {
	a := p.Spec.Affinity
	if a == nil {
		return nil
	}
	if a.PodAffinity != nil {
		out = preferredTerms(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, p, 1)
	}
	if a.PodAntiAffinity != nil {
		out = append(out, preferredTerms(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, p, -1)...)
	}
	return out
}
