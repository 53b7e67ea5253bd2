package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Decision is the answer for one pod, with its reasons.
type Decision struct {
	// Node is the one chosen, "" when there is none.
	Node string
	// Nodes is how many there are, Feasible how many passed all filters.
	Nodes, Feasible int
	// Reasons counts nodes by what spoke against them.
	Reasons map[string]int
	// Plugins are the filters that refused at least one node.
	Plugins []string
	// Scores are the weighted sums of the feasible nodes, when there was a
	// choice.
	Scores map[string]int64
}

// Profile is an ordered set of filters and scores. New ones are appended in
// code.
type Profile struct {
	Filters []Filter
	Scores  []Score
}

// DefaultProfile is upstream's default-scheduler.
func DefaultProfile() Profile { return Profile{Filters(), Scores()} }

// Decide finds the best node for a pod. It changes nothing. Among equals pick
// chooses an index below n.
func (p Profile) Decide(pod *corev1.Pod, c *Picture, pick func(n int) int) Decision {
	info := infoOf(pod)
	d := Decision{Nodes: len(c.list), Reasons: map[string]int{}}
	type check struct {
		name string
		f    func(*Node) []string
	}
	var checks []check
	for _, f := range p.Filters {
		if run := f.Prepare(info, c); run != nil {
			checks = append(checks, check{f.Name, run})
		}
	}
	refused := map[string]bool{}
	var feasible []*Node
nodes:
	for _, n := range c.list {
		for _, ch := range checks {
			if reasons := ch.f(n); len(reasons) > 0 {
				refused[ch.name] = true
				for _, r := range reasons {
					d.Reasons[r]++
				}
				continue nodes
			}
		}
		feasible = append(feasible, n)
	}
	d.Feasible = len(feasible)
	d.Plugins = slices.Sorted(maps.Keys(refused))
	switch len(feasible) {
	case 0:
		return d
	case 1:
		d.Node = feasible[0].Name
		return d
	}
	total := p.score(info, c, feasible)
	d.Scores = make(map[string]int64, len(feasible))
	best := slices.Max(total)
	var equals []string
	for i, n := range feasible {
		d.Scores[n.Name] = total[i]
		if total[i] == best {
			equals = append(equals, n.Name)
		}
	}
	d.Node = equals[pick(len(equals))]
	return d
}

func (p Profile) score(pod *podInfo, c *Picture, nodes []*Node) []int64 {
	total := make([]int64, len(nodes))
	raw := make([]int64, len(nodes))
	for _, s := range p.Scores {
		f := s.Prepare(pod, c)
		if f == nil {
			continue
		}
		for i, n := range nodes {
			raw[i] = f(n)
		}
		if s.Normalize != nil {
			s.Normalize(raw)
		}
		for i := range raw {
			total[i] += s.Weight * raw[i]
		}
	}
	return total
}

// Message explains a decision without a node, in upstream's form: "0/3 nodes
// are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
func (d Decision) Message() string {
	if d.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	parts := make([]string, 0, len(d.Reasons))
	for reason, n := range d.Reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", d.Nodes, strings.Join(parts, ", "))
}
