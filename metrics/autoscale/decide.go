package autoscale

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Decide computes the size of an autoscaler's target. It has no effects.
func Decide(s State) Decision {
	r := rulesOf(s.Spec.Behavior, s.Tuning)
	minimum := int32(1)
	if s.Spec.MinReplicas != nil {
		minimum = *s.Spec.MinReplicas
	}
	d := Decision{Desired: s.Replicas, Recommended: s.Replicas, Memory: s.Memory}
	d.set(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	switch {
	case s.Replicas == 0 && minimum != 0:
		d.Desired = 0
		d.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return d
	case s.Replicas > s.Spec.MaxReplicas:
		d.Desired, d.Reason = s.Spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
	case s.Replicas < minimum:
		d.Desired, d.Reason = minimum, "Current number of replicas below Spec.MinReplicas"
	default:
		d.byMetrics(&s, &r, minimum)
	}
	d.Rescale = d.Err == nil && d.Desired != s.Replicas
	if d.Rescale {
		d.Memory = r.changed(d.Memory, s.Now, s.Replicas, d.Desired)
	}
	return d
}

func (d *Decision) set(t autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) {
	d.put(Condition{t, status, reason, message})
}

// put adds a condition or replaces the one of its type.
func (d *Decision) put(c Condition) {
	for i := range d.Conditions {
		if d.Conditions[i].Type == c.Type {
			d.Conditions[i] = c
			return
		}
	}
	d.Conditions = append(d.Conditions, c)
}

// byMetrics takes the greatest size that a metric asks for, and lets windows,
// policies and bounds work on it.
func (d *Decision) byMetrics(s *State, r *rules, minimum int32) {
	if s.SelectorMissing {
		d.Err = fmt.Errorf("selector is required")
		d.warn("SelectorRequired", "selector is required")
		d.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, "InvalidSelector", "the HPA target's scale is missing a selector")
		return
	}
	metrics := s.Spec.Metrics
	if len(metrics) == 0 {
		metrics = defaultMetrics()
	}
	best, name, invalid := int32(0), "", 0
	var first *failure
	for i := range metrics {
		reading := Reading{Err: fmt.Errorf("nothing was read")}
		if i < len(s.Readings) {
			reading = s.Readings[i]
		}
		p, fail := s.propose(r, &metrics[i], reading)
		d.Proposals = append(d.Proposals, p)
		if fail != nil {
			invalid++
			if first == nil {
				first = fail
			}
			continue
		}
		if name == "" || p.Replicas > best {
			best, name = p.Replicas, p.Metric
		}
	}
	// A metric that cannot be read never makes the target smaller.
	if invalid == len(metrics) || invalid > 0 && best < s.Replicas {
		d.Err = fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %w", invalid, len(metrics), first.err)
		d.warn(first.reason, first.err.Error())
		d.warn("FailedComputeMetricsReplicas", d.Err.Error())
		d.set(autoscalingv2.ScalingActive, corev1.ConditionFalse, first.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", first.err))
		return
	}
	d.set(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", fmt.Sprintf("the HPA was able to successfully calculate a replica count from %s", name))
	d.Recommended = best
	if best > s.Replicas {
		d.Reason = name + " above target"
	} else if best < s.Replicas {
		d.Reason = "All metrics below target"
	}
	stable, able, memory := r.stabilize(d.Memory, s.Now, s.Replicas, best)
	d.Memory = memory
	d.put(able)
	var limited Condition
	d.Desired, limited = r.limit(d.Memory, s.Now, s.Replicas, stable, minimum, s.Spec.MaxReplicas)
	d.put(limited)
}

func (d *Decision) warn(reason, message string) {
	d.Warnings = append(d.Warnings, Warning{reason, message})
}

// defaultMetrics is what upstream's API fills in when nothing is asked for.
func defaultMetrics() []autoscalingv2.MetricSpec {
	target := defaultCPUTarget
	return []autoscalingv2.MetricSpec{{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
		},
	}}
}

// failure is why a metric has no proposal, with the condition's reason.
type failure struct {
	reason string
	err    error
}

// propose computes what one metric asks for.
func (s *State) propose(r *rules, m *autoscalingv2.MetricSpec, reading Reading) (Proposal, *failure) {
	p := Proposal{Replicas: s.Replicas}
	p.Status.Type = m.Type
	fail := func(reason string, format string, args ...any) (Proposal, *failure) {
		f := &failure{reason, fmt.Errorf(format, args...)}
		p.Error = f.err.Error()
		return p, f
	}
	var (
		o   outcome
		err error
	)
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		name, v := m.Resource.Name, autoscalingv2.MetricValueStatus{}
		p.Metric, o, v, err = s.resource(r, reading, name, "", m.Resource.Target)
		p.Status.Resource = &autoscalingv2.ResourceMetricStatus{Name: name, Current: v}
		if err != nil {
			return fail("FailedGetResourceMetric", "failed to get %s: %w", measured(name, m.Resource.Target), err)
		}
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		c, v := m.ContainerResource, autoscalingv2.MetricValueStatus{}
		p.Metric, o, v, err = s.resource(r, reading, c.Name, c.Container, c.Target)
		p.Status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: c.Name, Container: c.Container, Current: v}
		if err != nil {
			return fail("FailedGetContainerResourceMetric", "failed to get %s container metric value: %w", c.Name, err)
		}
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		p.Metric = "pods metric " + m.Pods.Metric.Name
		p.Status.Pods = &autoscalingv2.PodsMetricStatus{Metric: m.Pods.Metric}
		if err = reading.Err; err == nil && m.Pods.Target.AverageValue == nil {
			err = fmt.Errorf("invalid pods metric source: no averageValue target was set")
		}
		if err == nil {
			o, err = s.byAverage(r, reading.Pods, false, m.Pods.Target.AverageValue.MilliValue())
		}
		if err != nil {
			return fail("FailedGetPodsMetric", "failed to get pods metric value: %w", err)
		}
		p.Status.Pods.Current.AverageValue = milli(o.average)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		p.Metric = fmt.Sprintf("%s metric %s", m.Object.DescribedObject.Kind, m.Object.Metric.Name)
		p.Status.Object = &autoscalingv2.ObjectMetricStatus{Metric: m.Object.Metric, DescribedObject: m.Object.DescribedObject}
		o, p.Status.Object.Current, err = s.outside(r, reading, m.Object.Target)
		if err != nil {
			return fail("FailedGetObjectMetric", "failed to get object metric value: %w", err)
		}
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		p.Metric = fmt.Sprintf("external metric %s(%s)", m.External.Metric.Name, metav1.FormatLabelSelector(m.External.Metric.Selector))
		p.Status.External = &autoscalingv2.ExternalMetricStatus{Metric: m.External.Metric}
		o, p.Status.External.Current, err = s.outside(r, reading, m.External.Target)
		if err != nil {
			return fail("FailedGetExternalMetric", "failed to get %s external metric value: %w", m.External.Metric.Name, err)
		}
	default:
		return fail("InvalidMetricSourceType", "unknown metric source type %q", string(m.Type))
	}
	p.Replicas = o.replicas
	p.Ready, p.Unready, p.Missing = o.groups.ready, len(o.groups.unready), len(o.groups.missing)
	return p, nil
}

func measured(name corev1.ResourceName, t autoscalingv2.MetricTarget) string {
	if t.AverageValue != nil {
		return string(name) + " usage"
	}
	return string(name) + " utilization"
}

func (s *State) resource(r *rules, reading Reading, name corev1.ResourceName, container string, t autoscalingv2.MetricTarget) (string, outcome, autoscalingv2.MetricValueStatus, error) {
	var v autoscalingv2.MetricValueStatus
	quantity := func(thousandths int64) *resource.Quantity {
		if name == corev1.ResourceMemory {
			return resource.NewQuantity(thousandths/1000, resource.BinarySI)
		}
		return milli(thousandths)
	}
	if t.AverageValue != nil {
		metric := string(name) + " resource"
		if reading.Err != nil {
			return metric, outcome{}, v, reading.Err
		}
		o, err := s.byAverage(r, reading.Pods, name == corev1.ResourceCPU, t.AverageValue.MilliValue())
		v.AverageValue = quantity(o.average)
		return metric, o, v, err
	}
	metric := string(name) + " resource utilization (percentage of request)"
	if reading.Err != nil {
		return metric, outcome{}, v, reading.Err
	}
	if t.AverageUtilization == nil || *t.AverageUtilization <= 0 {
		return metric, outcome{}, v, fmt.Errorf("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	o, err := s.byUtilization(r, reading, name, container, *t.AverageUtilization)
	v.AverageUtilization, v.AverageValue = &o.utilization, quantity(o.average)
	return metric, o, v, err
}

// outside is for metrics of things that are not pods.
func (s *State) outside(r *rules, reading Reading, t autoscalingv2.MetricTarget) (outcome, autoscalingv2.MetricValueStatus, error) {
	var v autoscalingv2.MetricValueStatus
	switch {
	case reading.Err != nil:
		return outcome{}, v, reading.Err
	case t.AverageValue != nil:
		o, err := s.byShare(r, reading.Milli, t.AverageValue.MilliValue())
		v.AverageValue = milli(o.average)
		return o, v, err
	case t.Value != nil:
		o, err := s.byValue(r, reading.Milli, t.Value.MilliValue())
		v.Value = milli(o.average)
		return o, v, err
	}
	return outcome{}, v, fmt.Errorf("invalid metric source: neither a value target nor an average value target was set")
}
