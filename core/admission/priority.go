package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
)

// Priority turns a pod's priority class into numbers and keeps the number of
// default classes at one.
type Priority struct{ c client.Client }

// NewPriority returns the plugin.
func NewPriority(c client.Client) *Priority { return &Priority{c} }

func (*Priority) Name() string { return "Priority" }

func (*Priority) Handles(op Operation, r client.Resource, sub string) bool {
	return sub == "" && (op == Create || op == Update) && (r == podResource || r == priorityResource)
}

func (p *Priority) Admit(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if a.Op == Update {
		if old, ok := a.Old.(*corev1.Pod); ok && pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		return nil
	}
	class, err := p.classOf(ctx, pod)
	if apierrors.IsNotFound(err) {
		return refuse(a, fmt.Errorf("no PriorityClass with name %v was found", pod.Spec.PriorityClassName))
	}
	if err != nil {
		return fmt.Errorf("cannot look up the priority class of pod %s: %w", a.Key, err)
	}
	value, preempt := class.Value, corev1.PreemptLowerPriority
	if class.PreemptionPolicy != nil {
		preempt = *class.PreemptionPolicy
	}
	if said := pod.Spec.Priority; said != nil && *said != value {
		return refuse(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *said, value))
	}
	if said := pod.Spec.PreemptionPolicy; said != nil && *said != preempt {
		return refuse(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *said, preempt))
	}
	pod.Spec.PriorityClassName = class.Name
	pod.Spec.Priority = &value
	pod.Spec.PreemptionPolicy = &preempt
	return nil
}

// classOf returns the pod's class, the default one, or a nameless class of
// priority zero.
func (p *Priority) classOf(ctx context.Context, pod *corev1.Pod) (*schedulingv1.PriorityClass, error) {
	if name := pod.Spec.PriorityClassName; name != "" {
		class, err := client.GetCached[*schedulingv1.PriorityClass](ctx, p.c, "", name)
		if apierrors.IsNotFound(err) {
			class, err = client.Get[*schedulingv1.PriorityClass](ctx, p.c, "", name)
		}
		return class, err
	}
	class, err := p.standard(ctx)
	if class == nil && err == nil {
		class = &schedulingv1.PriorityClass{}
	}
	return class, err
}

// standard returns the default class with the lowest value, or nil.
func (p *Priority) standard(ctx context.Context) (*schedulingv1.PriorityClass, error) {
	classes, _, err := client.ListOf[*schedulingv1.PriorityClass](ctx, p.c, client.ReadOptions{FromCache: true})
	var best *schedulingv1.PriorityClass
	for _, c := range classes {
		if c.GlobalDefault && (best == nil || c.Value < best.Value) {
			best = c
		}
	}
	return best, err
}

func (p *Priority) Validate(ctx context.Context, a *Attributes) error {
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault {
		return nil
	}
	have, err := p.standard(ctx)
	if err != nil {
		return fmt.Errorf("cannot look up the default priority class: %w", err)
	}
	if have != nil && (a.Op == Create || have.Name != class.Name) {
		return refuse(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", have.Name))
	}
	return nil
}
