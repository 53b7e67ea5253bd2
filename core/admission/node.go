package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// TaintNodesByCondition keeps pods off a new node until it has been found
// ready.
type TaintNodesByCondition struct{ only }

// NewTaintNodesByCondition returns the plugin.
func NewTaintNodesByCondition() TaintNodesByCondition {
	return TaintNodesByCondition{on(nodeResource, Create)}
}

func (TaintNodesByCondition) Name() string { return "TaintNodesByCondition" }

func (TaintNodesByCondition) Admit(_ context.Context, a *Attributes) error {
	node, ok := a.Object.(*corev1.Node)
	if !ok {
		return nil
	}
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
		node.Spec.Taints = append(node.Spec.Taints, taint)
	}
	return nil
}
