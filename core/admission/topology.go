package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
)

// PodTopologyLabels gives pods the zone and the region of their node as labels
// (KEP-4742), when they are bound or made on it.
type PodTopologyLabels struct{ c client.Client }

// NewPodTopologyLabels returns the plugin.
func NewPodTopologyLabels(c client.Client) *PodTopologyLabels { return &PodTopologyLabels{c} }

func (*PodTopologyLabels) Name() string { return "PodTopologyLabels" }

func (*PodTopologyLabels) Handles(op Operation, r client.Resource, sub string) bool {
	return op == Create && r == podResource && (sub == "" || sub == "binding")
}

func (p *PodTopologyLabels) Admit(ctx context.Context, a *Attributes) error {
	node := ""
	switch o := a.Object.(type) {
	case *corev1.Pod:
		node = o.Spec.NodeName
	case *corev1.Binding:
		if o.Target.Kind == "" || o.Target.Kind == "Node" {
			node = o.Target.Name
		}
	}
	if node == "" {
		return nil
	}
	n, err := client.GetCached[*corev1.Node](ctx, p.c, "", node)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look up the topology of node %q: %w", node, err)
	}
	labels := a.Object.GetLabels()
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		v, ok := n.Labels[key]
		if !ok {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = v
	}
	a.Object.SetLabels(labels)
	return nil
}
