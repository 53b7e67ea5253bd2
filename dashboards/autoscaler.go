package dashboards

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"binnacle.io/metrics/autoscale"
)

// hpaView is a card of the autoscaling section.
type hpaView struct {
	Namespace  string          `json:"ns"`
	Name       string          `json:"name"`
	Target     string          `json:"target"` // Kind/name
	Minimum    int32           `json:"min"`
	Maximum    int32           `json:"max"`
	Current    int32           `json:"current"`
	Desired    int32           `json:"desired"`
	Metrics    []hpaMetric     `json:"metrics"`
	Decision   *decisionView   `json:"decision,omitempty"` // the latest
	LastScale  *decisionView   `json:"lastScale,omitempty"`
	Log        []decisionView  `json:"log"` // newest first
	Conditions []conditionView `json:"conditions"`
}

// hpaMetric holds a metric against its target. Unit is percent, cores, bytes
// or empty for plain numbers.
type hpaMetric struct {
	Name    string   `json:"name"`
	Unit    string   `json:"unit"`
	Target  float64  `json:"target"`
	Current *float64 `json:"current"`
	// Average tells that both are per pod.
	Average bool `json:"average"`
}

// decisionView is a decision as a sentence.
type decisionView struct {
	At    int64  `json:"at"`
	Text  string `json:"text"`
	Level level  `json:"level"`
	Times int    `json:"times,omitempty"`
}

type conditionView struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Since   int64  `json:"since"`
}

// maxLog bounds the decisions sent for each autoscaler.
const maxLog = 8

func viewHPA(h *autoscalingv2.HorizontalPodAutoscaler, decisions Decisions) hpaView {
	v := hpaView{
		Namespace: h.Namespace, Name: h.Name, Target: h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name,
		Minimum: 1, Maximum: h.Spec.MaxReplicas, Current: h.Status.CurrentReplicas, Desired: h.Status.DesiredReplicas,
		Metrics: []hpaMetric{}, Log: []decisionView{}, Conditions: []conditionView{},
	}
	if h.Spec.MinReplicas != nil {
		v.Minimum = *h.Spec.MinReplicas
	}
	for i := range h.Spec.Metrics {
		v.Metrics = append(v.Metrics, viewMetric(&h.Spec.Metrics[i], h.Status.CurrentMetrics))
	}
	for _, c := range h.Status.Conditions {
		v.Conditions = append(v.Conditions, conditionView{string(c.Type), string(c.Status), c.Reason, c.Message, c.LastTransitionTime.UnixMilli()})
	}
	if t := h.Status.LastScaleTime; t != nil {
		v.LastScale = &decisionView{At: t.UnixMilli(), Text: "Rescaled", Level: levelOK}
	}
	if decisions == nil {
		v.Decision = fromConditions(h)
		return v
	}
	log := decisions.Decisions(h.Namespace, h.Name)
	for i := range log {
		d := viewDecision(&log[i], h.Status.Conditions)
		if i == 0 {
			v.Decision = &d
		}
		if log[i].Rescaled && (v.LastScale == nil || v.LastScale.Text == "Rescaled") {
			v.LastScale = &d
		}
		if len(v.Log) < maxLog {
			v.Log = append(v.Log, d)
		}
	}
	if v.Decision == nil {
		v.Decision = fromConditions(h)
	}
	return v
}

// fromConditions says what an autoscaler's status says when no decision was
// recorded.
func fromConditions(h *autoscalingv2.HorizontalPodAutoscaler) *decisionView {
	for _, c := range h.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Type != autoscalingv2.ScalingLimited {
			return &decisionView{At: c.LastTransitionTime.UnixMilli(), Text: c.Message, Level: levelError}
		}
	}
	for _, c := range h.Status.Conditions {
		if c.Type == autoscalingv2.ScalingActive {
			return &decisionView{At: c.LastTransitionTime.UnixMilli(), Text: c.Message, Level: levelOK}
		}
	}
	return nil
}

// viewDecision puts a decision into a sentence.
func viewDecision(r *autoscale.Record, conditions []autoscalingv2.HorizontalPodAutoscalerCondition) decisionView {
	d := decisionView{At: r.Time.UnixMilli(), Level: levelOK, Times: r.Times}
	switch {
	case r.Error != "":
		d.Level, d.Text = levelError, "Cannot decide: "+r.Error
	case r.Rescaled && r.Desired > r.Current:
		d.Level, d.Text = levelProgress, fmt.Sprintf("Scaled up %d → %d: %s", r.Current, r.Desired, r.Reason)
	case r.Rescaled:
		d.Level, d.Text = levelProgress, fmt.Sprintf("Scaled down %d → %d: %s", r.Current, r.Desired, r.Reason)
	case r.Current == 0 && r.Desired == 0:
		d.Level, d.Text = levelDone, "Off: the target is scaled to zero"
	case r.Recommended != r.Desired:
		d.Text = fmt.Sprintf("Holding %d while metrics ask for %d: %s", r.Desired, r.Recommended, holding(r, conditions))
	default:
		d.Text = fmt.Sprintf("Holding %d: metrics are within tolerance of their targets", r.Desired)
	}
	return d
}

// holding is why a recommendation is not followed.
func holding(r *autoscale.Record, conditions []autoscalingv2.HorizontalPodAutoscalerCondition) string {
	message := func(t autoscalingv2.HorizontalPodAutoscalerConditionType, fallback string) string {
		for _, c := range conditions {
			if c.Type == t && c.Message != "" {
				return c.Message
			}
		}
		return fallback
	}
	switch {
	case r.Desired == r.Maximum && r.Recommended > r.Maximum:
		return fmt.Sprintf("%d is the greatest size allowed", r.Maximum)
	case r.Desired == r.Minimum && r.Recommended < r.Minimum:
		return fmt.Sprintf("%d is the smallest size allowed", r.Minimum)
	case r.Conditions[string(autoscalingv2.AbleToScale)] == "True ScaleDownStabilized" ||
		r.Conditions[string(autoscalingv2.AbleToScale)] == "True ScaleUpStabilized":
		return message(autoscalingv2.AbleToScale, "a greater or smaller size was recommended within the stabilization window")
	}
	return message(autoscalingv2.ScalingLimited, "a scaling policy or window applies")
}

// viewMetric finds a metric's target and its current value.
func viewMetric(spec *autoscalingv2.MetricSpec, current []autoscalingv2.MetricStatus) hpaMetric {
	var m hpaMetric
	find := func(same func(*autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus) *autoscalingv2.MetricValueStatus {
		for i := range current {
			if current[i].Type == spec.Type {
				if v := same(&current[i]); v != nil {
					return v
				}
			}
		}
		return nil
	}
	switch {
	case spec.Resource != nil:
		m.Name, m.Unit = string(spec.Resource.Name), unitOf(spec.Resource.Name)
		m.measure(spec.Resource.Target, find(func(s *autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
			if s.Resource != nil && s.Resource.Name == spec.Resource.Name {
				return &s.Resource.Current
			}
			return nil
		}))
	case spec.ContainerResource != nil:
		r := spec.ContainerResource
		m.Name, m.Unit = fmt.Sprintf("%s of container %s", r.Name, r.Container), unitOf(r.Name)
		m.measure(r.Target, find(func(s *autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
			if s.ContainerResource != nil && s.ContainerResource.Name == r.Name && s.ContainerResource.Container == r.Container {
				return &s.ContainerResource.Current
			}
			return nil
		}))
	case spec.Pods != nil:
		m.Name = spec.Pods.Metric.Name
		m.measure(spec.Pods.Target, find(func(s *autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
			if s.Pods != nil && s.Pods.Metric.Name == m.Name {
				return &s.Pods.Current
			}
			return nil
		}))
	case spec.Object != nil:
		o := spec.Object
		m.Name = fmt.Sprintf("%s of %s/%s", o.Metric.Name, o.DescribedObject.Kind, o.DescribedObject.Name)
		m.measure(o.Target, find(func(s *autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
			if s.Object != nil && s.Object.Metric.Name == o.Metric.Name && s.Object.DescribedObject == o.DescribedObject {
				return &s.Object.Current
			}
			return nil
		}))
	case spec.External != nil:
		m.Name = spec.External.Metric.Name
		m.measure(spec.External.Target, find(func(s *autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
			if s.External != nil && s.External.Metric.Name == m.Name {
				return &s.External.Current
			}
			return nil
		}))
	}
	return m
}

func unitOf(r corev1.ResourceName) string {
	switch r {
	case corev1.ResourceCPU:
		return "cores"
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return "bytes"
	}
	return ""
}

func (m *hpaMetric) measure(t autoscalingv2.MetricTarget, s *autoscalingv2.MetricValueStatus) {
	quantity := func(q *resource.Quantity) *float64 {
		if q == nil {
			return nil
		}
		v := q.AsApproximateFloat64()
		return &v
	}
	if s == nil {
		s = &autoscalingv2.MetricValueStatus{}
	}
	switch t.Type {
	case autoscalingv2.UtilizationMetricType:
		m.Unit, m.Average = "percent", true
		if t.AverageUtilization != nil {
			m.Target = float64(*t.AverageUtilization)
		}
		if u := s.AverageUtilization; u != nil {
			v := float64(*u)
			m.Current = &v
		}
	case autoscalingv2.AverageValueMetricType:
		m.Average = true
		if t.AverageValue != nil {
			m.Target = t.AverageValue.AsApproximateFloat64()
		}
		m.Current = quantity(s.AverageValue)
	case autoscalingv2.ValueMetricType:
		if t.Value != nil {
			m.Target = t.Value.AsApproximateFloat64()
		}
		m.Current = quantity(s.Value)
	}
}
