package scheduler

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

const maxScore = 100

// Score ranks the nodes a pod may go to. prepare, once per pod, returns the
// raw score of a node, or nil when the score says nothing about this pod. Raw
// scores are brought to 0–100 by normalize and count weight times.
type Score struct {
	Name      string
	Weight    int64
	Prepare   func(pod *podInfo, c *Picture) func(*Node) int64
	Normalize func(raw []int64)
}

// Scores returns upstream's default scores and weights.
func Scores() []Score {
	return []Score{
		{"TaintToleration", 3, preferNoScheduleTaints, inverted},
		{"NodeAffinity", 2, preferredNodeAffinity, proportional},
		{"PodTopologySpread", 2, softSpread, inverted},
		{"InterPodAffinity", 2, affinityScore, stretched},
		{"NodeResourcesFit", 1, leastAllocated, nil},
		{"NodeResourcesBalancedAllocation", 1, balanced, nil},
		{"ImageLocality", 1, imageLocality, nil},
	}
}

// proportional scales so that the best is 100.
func proportional(raw []int64) {
	var most int64
	for _, v := range raw {
		most = max(most, v)
	}
	for i := range raw {
		if most > 0 {
			raw[i] = raw[i] * maxScore / most
		}
	}
}

// inverted is proportional for raw scores of which less is better.
func inverted(raw []int64) {
	var most int64
	for _, v := range raw {
		most = max(most, v)
	}
	for i := range raw {
		if most == 0 {
			raw[i] = maxScore
		} else {
			raw[i] = maxScore - raw[i]*maxScore/most
		}
	}
}

// stretched maps the range of raw scores, negative ones too, to 0–100.
func stretched(raw []int64) {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, v := range raw {
		least, most = min(least, v), max(most, v)
	}
	for i := range raw {
		if most > least {
			raw[i] = (raw[i] - least) * maxScore / (most - least)
		} else {
			raw[i] = 0
		}
	}
}

func preferNoScheduleTaints(pod *podInfo, _ *Picture) func(*Node) int64 {
	return func(n *Node) (count int64) {
		for i := range n.Spec.Taints {
			t := &n.Spec.Taints[i]
			if t.Effect != corev1.TaintEffectPreferNoSchedule {
				continue
			}
			tolerated := false
			for _, tol := range pod.Spec.Tolerations {
				tolerated = tolerated || tol.ToleratesTaint(klog.Background(), t, false)
			}
			if !tolerated {
				count++
			}
		}
		return count
	}
}

func preferredNodeAffinity(pod *podInfo, _ *Picture) func(*Node) int64 {
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return nil
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return nil // validation refuses such terms
	}
	return func(n *Node) int64 { return terms.Score(n.Node) }
}

// softSpread counts matching pods around a node for ScheduleAnyway constraints.
// Rarer topology values weigh less, as upstream: by log(size+2).
func softSpread(pod *podInfo, c *Picture) func(*Node) int64 {
	soft := constraintsOf(pod, corev1.ScheduleAnyway)
	if len(soft) == 0 {
		return nil
	}
	counts := spreadCounts(pod, c, soft)
	return func(n *Node) int64 {
		var sum float64
		for _, sc := range counts {
			if v, ok := n.Labels[sc.TopologyKey]; ok {
				sum += float64(sc.counts[v])*math.Log(float64(len(sc.counts)+2)) + float64(sc.MaxSkew-1)
			}
		}
		return int64(math.Round(sum))
	}
}

func leastAllocated(pod *podInfo, _ *Picture) func(*Node) int64 {
	return func(n *Node) int64 {
		var sum int64
		for _, name := range [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			capacity, want := n.capacity[name], n.assumed[name]+pod.assumed[name]
			if capacity > 0 && want <= capacity {
				sum += (capacity - want) * maxScore / capacity
			}
		}
		return sum / 2
	}
}

// balanced prefers nodes where CPU and memory would be used evenly.
func balanced(pod *podInfo, _ *Picture) func(*Node) int64 {
	if len(pod.requests) == 0 {
		return nil
	}
	fraction := func(n *Node, name corev1.ResourceName) float64 {
		if n.capacity[name] == 0 {
			return 1
		}
		return min(1, float64(n.requests[name]+pod.requests[name])/float64(n.capacity[name]))
	}
	return func(n *Node) int64 {
		deviation := math.Abs(fraction(n, corev1.ResourceCPU)-fraction(n, corev1.ResourceMemory)) / 2
		return int64((1 - deviation) * maxScore)
	}
}

// Image sizes between which ImageLocality grows, per container.
const (
	smallImage = 23 << 20
	largeImage = 1000 << 20
)

func imageLocality(pod *podInfo, c *Picture) func(*Node) int64 {
	if len(c.list) == 0 {
		return nil
	}
	spread := map[string]int64{} // image → nodes that have it
	names := make([]string, len(pod.Spec.Containers))
	for i, ctr := range pod.Spec.Containers {
		names[i] = ctr.Image
		if !strings.Contains(ctr.Image[strings.LastIndexByte(ctr.Image, '/')+1:], ":") {
			names[i] += ":latest"
		}
		for _, n := range c.list {
			if _, ok := n.images[names[i]]; ok {
				spread[names[i]]++
			}
		}
	}
	return func(n *Node) int64 {
		var sum int64
		for _, name := range names {
			sum += n.images[name] * spread[name] / int64(len(c.list))
		}
		most := int64(largeImage) * int64(len(names))
		sum = min(max(sum, smallImage), most)
		return maxScore * (sum - smallImage) / (most - smallImage)
	}
}
