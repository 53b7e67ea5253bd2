package kind

import (
	"fmt"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
)

func autoscalerColumns() []Column {
	spec, status := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc(), autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
	return named[*autoscalingv2.HorizontalPodAutoscaler]().
		text("Reference", spec["scaleTargetRef"], func(h *autoscalingv2.HorizontalPodAutoscaler) string {
			return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
		}).
		text("Targets", spec["metrics"], autoscalerTargets).
		text("MinPods", spec["minReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) string {
			if h.Spec.MinReplicas == nil {
				return "<unset>"
			}
			return strconv.Itoa(int(*h.Spec.MinReplicas))
		}).
		count("MaxPods", spec["maxReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) int64 { return int64(h.Spec.MaxReplicas) }).as("string").
		count("Replicas", status["currentReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) int64 { return int64(h.Status.CurrentReplicas) }).as("string").
		age()
}

// autoscalerTargets shows "now/wanted" of the first two metrics.
func autoscalerTargets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(h.Spec.Metrics) == 0 {
		return "<none>"
	}
	const shown = 2
	var list []string
	for i := range min(shown, len(h.Spec.Metrics)) {
		var now *autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			now = &h.Status.CurrentMetrics[i]
		}
		list = append(list, metricText(&h.Spec.Metrics[i], now))
	}
	out := strings.Join(list, ", ")
	if more := len(h.Spec.Metrics) - shown; more > 0 {
		out += fmt.Sprintf(" + %d more...", more)
	}
	return out
}

func metricText(m *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	value := func(q *resource.Quantity) string {
		if q == nil {
			return "<unknown>"
		}
		return q.String()
	}
	pair := func(t *autoscalingv2.MetricTarget, c *autoscalingv2.MetricValueStatus) string {
		if c == nil {
			c = &autoscalingv2.MetricValueStatus{}
		}
		if t.AverageValue != nil {
			return value(c.AverageValue) + "/" + t.AverageValue.String() + " (avg)"
		}
		return value(c.Value) + "/" + value(t.Value)
	}
	share := func(name string, t *autoscalingv2.MetricTarget, c *autoscalingv2.MetricValueStatus) string {
		if c == nil {
			c = &autoscalingv2.MetricValueStatus{}
		}
		if t.AverageValue != nil {
			return name + ": " + value(c.AverageValue) + "/" + t.AverageValue.String()
		}
		current, target := "<unknown>", "<auto>"
		if c.AverageUtilization != nil {
			current = fmt.Sprintf("%d%%", *c.AverageUtilization)
		}
		if t.AverageUtilization != nil {
			target = fmt.Sprintf("%d%%", *t.AverageUtilization)
		}
		return name + ": " + current + "/" + target
	}
	if now == nil {
		now = &autoscalingv2.MetricStatus{}
	}
	switch {
	case m.Resource != nil:
		var c *autoscalingv2.MetricValueStatus
		if now.Resource != nil {
			c = &now.Resource.Current
		}
		return share(string(m.Resource.Name), &m.Resource.Target, c)
	case m.ContainerResource != nil:
		var c *autoscalingv2.MetricValueStatus
		if now.ContainerResource != nil {
			c = &now.ContainerResource.Current
		}
		return share(string(m.ContainerResource.Name), &m.ContainerResource.Target, c)
	case m.Pods != nil:
		var c *resource.Quantity
		if now.Pods != nil {
			c = now.Pods.Current.AverageValue
		}
		return value(c) + "/" + value(m.Pods.Target.AverageValue)
	case m.Object != nil:
		var c *autoscalingv2.MetricValueStatus
		if now.Object != nil {
			c = &now.Object.Current
		}
		return pair(&m.Object.Target, c)
	case m.External != nil:
		var c *autoscalingv2.MetricValueStatus
		if now.External != nil {
			c = &now.External.Current
		}
		return pair(&m.External.Target, c)
	}
	return "<unknown type>"
}
