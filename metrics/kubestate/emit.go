package kubestate

import (
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Series is one series with its present value. Ref belongs to whoever stores
// it and is kept as long as the series lives.
type Series struct {
	Labels labels.Labels
	Value  float64
	Ref    uint64
}

// emitter collects the series of one object.
type emitter struct {
	constant []string // name, value, … on every series
	base     []string // name, value, … of the present object
	builder  labels.ScratchBuilder
	out      []Series
}

// add emits a series with the object's labels and more.
func (e *emitter) add(name string, value float64, kv ...string) {
	e.builder.Reset()
	e.builder.Add(labels.MetricName, name)
	for _, list := range [][]string{e.constant, e.base, kv} {
		for i := 0; i < len(list); i += 2 {
			// An empty label is an absent one in storage.
			if list[i+1] != "" {
				e.builder.Add(list[i], list[i+1])
			}
		}
	}
	e.builder.Sort()
	e.out = append(e.out, Series{Labels: e.builder.Labels(), Value: value})
}

func (e *emitter) one(name string, kv ...string) { e.add(name, 1, kv...) }

func (e *emitter) flag(name string, on bool, kv ...string) { e.add(name, b2f(on), kv...) }

// time emits a moment as Unix seconds, and nothing for the zero time.
func (e *emitter) time(name string, t metav1.Time, kv ...string) {
	if !t.IsZero() {
		e.add(name, float64(t.Unix()), kv...)
	}
}

func (e *emitter) timePtr(name string, t *metav1.Time, kv ...string) {
	if t != nil {
		e.time(name, *t, kv...)
	}
}

func (e *emitter) int32Ptr(name string, v *int32, kv ...string) {
	if v != nil {
		e.add(name, float64(*v), kv...)
	}
}

// oneOf emits a 0/1 series for each possible value of a label.
func (e *emitter) oneOf(name, label, value string, all ...string) {
	for _, v := range all {
		e.flag(name, v == value, label, v)
	}
}

// condition emits a 0/1 series for each status of a condition.
func (e *emitter) condition(name string, status string, kv ...string) {
	for _, s := range []string{"true", "false", "unknown"} {
		e.flag(name, strings.EqualFold(status, s), append(kv, "status", s)...)
	}
}

// labels emits the object's labels as label_<name>.
func (e *emitter) labels(name string, set map[string]string) {
	kv := make([]string, 0, 2*len(set))
	seen := map[string]int{}
	for _, k := range sortedKeys(set) {
		l := "label_" + sanitize(k)
		if seen[l]++; seen[l] > 1 {
			l += "_conflict" + strconv.Itoa(seen[l])
		}
		kv = append(kv, l, set[k])
	}
	e.one(name, kv...)
}

// owners emits one series per owner, or one that says there is none.
func (e *emitter) owners(name string, refs []metav1.OwnerReference) {
	if len(refs) == 0 {
		e.one(name, "owner_kind", "", "owner_name", "", "owner_is_controller", "")
		return
	}
	for _, r := range refs {
		e.one(name, "owner_kind", r.Kind, "owner_name", r.Name, "owner_is_controller", strconv.FormatBool(r.Controller != nil && *r.Controller))
	}
}

// controller returns the controlling owner, or zero.
func controller(refs []metav1.OwnerReference) metav1.OwnerReference {
	for _, r := range refs {
		if r.Controller != nil && *r.Controller {
			return r
		}
	}
	return metav1.OwnerReference{}
}

// resources emits a resource list with upstream's unit labels.
func (e *emitter) resources(name string, list corev1.ResourceList, kv ...string) {
	for _, r := range sortedKeys(list) {
		unit, v, ok := resourceUnit(r, list[r])
		if ok {
			e.add(name, v, append(kv, "resource", sanitize(string(r)), "unit", unit)...)
		}
	}
}

func resourceUnit(r corev1.ResourceName, q resource.Quantity) (unit string, value float64, ok bool) {
	switch {
	case r == corev1.ResourceCPU:
		return "core", q.AsApproximateFloat64(), true
	case r == corev1.ResourceMemory, r == corev1.ResourceStorage, r == corev1.ResourceEphemeralStorage,
		strings.HasPrefix(string(r), corev1.ResourceHugePagesPrefix),
		strings.HasPrefix(string(r), corev1.ResourceAttachableVolumesPrefix):
		return "byte", float64(q.Value()), true
	default:
		return "integer", float64(q.Value()), true
	}
}

// sanitize maps a Kubernetes name to a Prometheus label name.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
