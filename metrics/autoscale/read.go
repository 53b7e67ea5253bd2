package autoscale

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/client"
)

// scaleTarget is what is scaled.
type scaleTarget struct {
	resource           client.Resource
	key                client.Key
	revision           string
	replicas, observed int32
	selector           labels.Selector // nil: it has none
}

// target reads the scale of the autoscaler's target.
func (c *Controller) target(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler) (scaleTarget, error) {
	ref := h.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return scaleTarget{}, fmt.Errorf("invalid API version in scale target reference: %w", err)
	}
	resources := map[schema.GroupKind]string{
		{Group: "apps", Kind: "Deployment"}:        "deployments",
		{Group: "apps", Kind: "ReplicaSet"}:        "replicasets",
		{Group: "apps", Kind: "StatefulSet"}:       "statefulsets",
		{Group: "", Kind: "ReplicationController"}: "replicationcontrollers",
	}
	gk := schema.GroupKind{Group: gv.Group, Kind: ref.Kind}
	if gk.Group == "extensions" { // the old home of what apps has now
		gk.Group = "apps"
	}
	plural, ok := resources[gk]
	if !ok {
		return scaleTarget{}, fmt.Errorf("no scale is known for %s of %q: autoscalers scale Deployments, ReplicaSets, StatefulSets and ReplicationControllers", ref.Kind, ref.APIVersion)
	}
	t := scaleTarget{resource: client.Resource{Group: gk.Group, Resource: plural}, key: client.Key{Namespace: h.Namespace, Name: ref.Name}}
	o, err := c.client.Get(ctx, t.resource, t.key, client.ReadOptions{FromCache: true})
	if err != nil {
		return t, err
	}
	t.revision = o.GetResourceVersion()
	replicas, selector := (*int32)(nil), (*metav1.LabelSelector)(nil)
	switch o := o.(type) {
	case *appsv1.Deployment:
		replicas, selector, t.observed = o.Spec.Replicas, o.Spec.Selector, o.Status.Replicas
	case *appsv1.ReplicaSet:
		replicas, selector, t.observed = o.Spec.Replicas, o.Spec.Selector, o.Status.Replicas
	case *appsv1.StatefulSet:
		replicas, selector, t.observed = o.Spec.Replicas, o.Spec.Selector, o.Status.Replicas
	case *corev1.ReplicationController:
		replicas, t.observed = o.Spec.Replicas, o.Status.Replicas
		if len(o.Spec.Selector) > 0 {
			selector = &metav1.LabelSelector{MatchLabels: o.Spec.Selector}
		}
	default:
		return t, fmt.Errorf("cannot read the scale of a %T", o)
	}
	t.replicas = 1
	if replicas != nil {
		t.replicas = *replicas
	}
	if selector != nil {
		if t.selector, err = metav1.LabelSelectorAsSelector(selector); err != nil {
			return t, fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
		}
	}
	return t, nil
}

func (c *Controller) pods(ctx context.Context, namespace string, s labels.Selector) ([]*corev1.Pod, error) {
	list, _, err := client.ListOf[*corev1.Pod](ctx, c.client, client.ReadOptions{Namespace: namespace, Labels: s, FromCache: true})
	return list, err
}

// read measures every metric of the spec.
func (c *Controller) read(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler, pods []*corev1.Pod, now time.Time) []Reading {
	specs := h.Spec.Metrics
	if len(specs) == 0 {
		specs = defaultMetrics()
	}
	out := make([]Reading, len(specs))
	for i := range specs {
		m := &specs[i]
		switch {
		case m.Resource != nil:
			out[i] = c.resource(pods, m.Resource.Name, "")
		case m.ContainerResource != nil:
			out[i] = c.resource(pods, m.ContainerResource.Name, m.ContainerResource.Container)
		case m.Pods != nil:
			out[i] = c.custom(ctx, h.Namespace, pods, m.Pods.Metric, now)
		case m.Object != nil:
			o := m.Object.DescribedObject
			out[i] = c.value(ctx, m.Object.Metric, now, `namespace=`+quote(h.Namespace), label(strings.ToLower(o.Kind))+"="+quote(o.Name))
		case m.External != nil:
			out[i] = c.value(ctx, m.External.Metric, now, `namespace=`+quote(h.Namespace))
		default:
			out[i] = Reading{Err: fmt.Errorf("unknown metric source type %q", string(m.Type))}
		}
	}
	return out
}

// resource sums the containers of each pod. A pod of which a container that
// should run has no sample yet is left out, as metrics-server leaves it.
func (c *Controller) resource(pods []*corev1.Pod, name corev1.ResourceName, container string) Reading {
	if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
		return Reading{Err: fmt.Errorf("resource %q is not measured: cpu and memory are", name)}
	}
	r := Reading{Pods: make(map[string]Sample, len(pods))}
	wanted := make(map[string]*corev1.Pod, len(pods))
	for _, p := range pods {
		wanted[string(p.UID)] = p
	}
	have := map[string]int{}
	for i := range c.rates {
		rate := &c.rates[i]
		p := wanted[rate.Container.PodUID]
		if p == nil || rate.Container.Sandbox || container != "" && rate.Container.Name != container {
			continue
		}
		s := r.Pods[p.Name]
		if name == corev1.ResourceCPU {
			s.Milli += int64(math.Round(rate.Cores * 1000))
		} else {
			s.Milli += int64(rate.WorkingSet) * 1000
		}
		if s.Time.IsZero() || rate.Time.Before(s.Time) {
			s.Time = rate.Time
		}
		s.Window = max(s.Window, rate.Window)
		r.Pods[p.Name] = s
		have[p.Name]++
	}
	for _, p := range pods {
		need := len(p.Spec.Containers)
		if container != "" {
			need = 1
		}
		if n := have[p.Name]; n > 0 && n < need && !finished(p, need-n) {
			delete(r.Pods, p.Name)
		}
	}
	if len(r.Pods) == 0 {
		r.Err = fmt.Errorf("unable to get metrics for resource %s: no metrics returned from resource metrics API", name)
	}
	return r
}

// finished tells whether at least n containers of the pod have ended.
func finished(p *corev1.Pod, n int) bool {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Terminated != nil {
			n--
		}
	}
	return n <= 0
}

// custom reads a metric that pods themselves have.
func (c *Controller) custom(ctx context.Context, namespace string, pods []*corev1.Pod, id autoscalingv2.MetricIdentifier, now time.Time) Reading {
	names := make([]string, len(pods))
	for i, p := range pods {
		names[i] = p.Name // of the alphabet a-z 0-9 - . , of which only the dot means something to a regular expression
	}
	match := "pod=~" + quote(strings.ReplaceAll(strings.Join(names, "|"), ".", `\.`))
	v, err := c.series(ctx, "sum by (pod) (%s)", id, now, "namespace="+quote(namespace), match)
	if err != nil {
		return Reading{Err: err}
	}
	r := Reading{Pods: make(map[string]Sample, len(v))}
	for _, s := range v {
		r.Pods[s.Metric.Get("pod")] = Sample{Milli: int64(math.Round(s.F * 1000)), Time: now}
	}
	return r
}

// value reads a metric as one sum.
func (c *Controller) value(ctx context.Context, id autoscalingv2.MetricIdentifier, now time.Time, matchers ...string) Reading {
	v, err := c.series(ctx, "sum(%s)", id, now, matchers...)
	if err != nil {
		return Reading{Err: err}
	}
	return Reading{Milli: int64(math.Round(v[0].F * 1000))}
}

// series evaluates the metric, or the rate of the counter of its name.
func (c *Controller) series(ctx context.Context, aggregate string, id autoscalingv2.MetricIdentifier, now time.Time, matchers ...string) (promql.Vector, error) {
	if c.query == nil {
		return nil, errors.New("no metrics database is configured")
	}
	if id.Selector != nil {
		more, err := selectorMatchers(id.Selector)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, more...)
	}
	for _, form := range []string{"{__name__=%s,%s}", "rate({__name__=%s,%s}[30s])"} {
		name := id.Name
		if strings.HasPrefix(form, "rate") {
			name += "_total"
		}
		expr := fmt.Sprintf(aggregate, fmt.Sprintf(form, quote(name), strings.Join(matchers, ",")))
		v, err := c.query.Query(ctx, expr, now)
		if err != nil {
			return nil, err
		}
		if len(v) > 0 {
			return v, nil
		}
	}
	return nil, fmt.Errorf("no metrics returned: there are no series %s{%s} and no counter %s_total", id.Name, strings.Join(matchers, ","), id.Name)
}

// selectorMatchers writes a label selector as PromQL matchers.
func selectorMatchers(s *metav1.LabelSelector) ([]string, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, fmt.Errorf("invalid metric selector: %w", err)
	}
	requirements, _ := sel.Requirements()
	var out []string
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		for i, v := range values {
			values[i] = strings.ReplaceAll(v, ".", `\.`) // label values hold no other special character
		}
		any := quote(strings.Join(values, "|"))
		switch r.Operator() {
		case "in", "=", "==":
			out = append(out, label(r.Key())+"=~"+any)
		case "notin", "!=":
			out = append(out, label(r.Key())+"!~"+any)
		case "exists":
			out = append(out, label(r.Key())+`!=""`)
		case "!":
			out = append(out, label(r.Key())+`=""`)
		default:
			return nil, fmt.Errorf("metric selector operator %q is not supported", r.Operator())
		}
	}
	return out, nil
}

// quote writes a PromQL string.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// label maps a Kubernetes name to the Prometheus label that stands for it.
func label(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}
