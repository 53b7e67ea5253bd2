package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
)

// RuntimeClass gives pods the overhead and the scheduling constraints of their
// runtime class.
type RuntimeClass struct {
	only
	c client.Client
}

// NewRuntimeClass returns the plugin.
func NewRuntimeClass(c client.Client) *RuntimeClass { return &RuntimeClass{on(podResource, Create), c} }

func (*RuntimeClass) Name() string { return "RuntimeClass" }

func (p *RuntimeClass) Admit(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	class, err := p.class(ctx, a, pod)
	if err != nil || class == nil {
		return err
	}
	if o := class.Overhead; o != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(o.PodFixed, pod.Spec.Overhead) {
			return refuse(a, fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
		}
		pod.Spec.Overhead = o.PodFixed.DeepCopy()
	}
	if s := class.Scheduling; s != nil {
		return p.constrain(a, pod, s)
	}
	return nil
}

func (p *RuntimeClass) class(ctx context.Context, a *Attributes, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
	if pod.Spec.RuntimeClassName == nil {
		return nil, nil
	}
	name := *pod.Spec.RuntimeClassName
	class, err := client.GetCached[*nodev1.RuntimeClass](ctx, p.c, "", name)
	if apierrors.IsNotFound(err) {
		class, err = client.Get[*nodev1.RuntimeClass](ctx, p.c, "", name)
	}
	if apierrors.IsNotFound(err) {
		return nil, refuse(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	return class, err
}

func (p *RuntimeClass) constrain(a *Attributes, pod *corev1.Pod, s *nodev1.Scheduling) error {
	for k, v := range s.NodeSelector {
		if have, ok := pod.Spec.NodeSelector[k]; ok && have != v {
			return refuse(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", k, v, k, have))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[k] = v
	}
	for i := range s.Tolerations {
		known := false
		for j := range pod.Spec.Tolerations {
			known = known || equality.Semantic.DeepEqual(s.Tolerations[i], pod.Spec.Tolerations[j])
		}
		if !known {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, *s.Tolerations[i].DeepCopy())
		}
	}
	return nil
}

// Validate refuses an overhead that comes from nowhere.
func (p *RuntimeClass) Validate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || len(pod.Spec.Overhead) == 0 {
		return nil
	}
	class, err := p.class(ctx, a, pod)
	if err != nil {
		return err
	}
	if class == nil || class.Overhead == nil {
		return refuse(a, fmt.Errorf("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}
