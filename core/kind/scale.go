package kind

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// scalable says where a kind keeps its replicas.
type scalable[T Object] struct {
	replicas func(T) **int32
	current  func(T) int32
	selector func(T) *metav1.LabelSelector
}

// scale is the subresource by which only the number of replicas is seen.
func scale[T Object](s scalable[T]) Subresource {
	return Subresource{
		Name:  "scale",
		Body:  autoscalingv1.SchemeGroupVersion.WithKind("Scale"),
		Verbs: readWrite(),
		Project: func(o Object) (Object, error) {
			t := o.(T)
			sel, err := metav1.LabelSelectorAsSelector(s.selector(t))
			if err != nil {
				return nil, fmt.Errorf("cannot read the selector of %q: %w", o.GetName(), err)
			}
			if s.selector(t) == nil {
				sel = labels.Everything()
			}
			sc := &autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{
					Name:              o.GetName(),
					Namespace:         o.GetNamespace(),
					UID:               o.GetUID(),
					ResourceVersion:   o.GetResourceVersion(),
					CreationTimestamp: o.GetCreationTimestamp(),
				},
				Status: autoscalingv1.ScaleStatus{Replicas: s.current(t), Selector: sel.String()},
			}
			if n := *s.replicas(t); n != nil {
				sc.Spec.Replicas = *n
			}
			return sc, nil
		},
		Apply: func(o, body Object) error {
			sc, ok := body.(*autoscalingv1.Scale)
			if !ok {
				return fmt.Errorf("cannot scale %q by a %T", o.GetName(), body)
			}
			n := sc.Spec.Replicas
			*s.replicas(o.(T)) = &n
			if sc.ResourceVersion != "" {
				o.SetResourceVersion(sc.ResourceVersion)
			}
			if sc.UID != "" {
				o.SetUID(sc.UID)
			}
			return nil
		},
	}
}
