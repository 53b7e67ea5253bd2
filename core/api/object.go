package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

func clone(o client.Object) client.Object { return o.DeepCopyObject().(client.Object) }

// keepTrace makes the trace annotation of o that of from (nil: none), so that
// clients can neither set nor drop it. o's annotations may be shared and are
// copied when they change.
func keepTrace(o metav1.Object, from metav1.Object) {
	want := ""
	if from != nil {
		want = from.GetAnnotations()[telemetry.TraceAnnotation]
	}
	setTrace(o, want)
}

func setTrace(o metav1.Object, traceparent string) {
	have := o.GetAnnotations()
	if have[telemetry.TraceAnnotation] == traceparent {
		if _, present := have[telemetry.TraceAnnotation]; !present || traceparent != "" {
			return
		}
	}
	next := maps.Clone(have)
	if traceparent == "" {
		delete(next, telemetry.TraceAnnotation)
	} else {
		if next == nil {
			next = map[string]string{}
		}
		next[telemetry.TraceAnnotation] = traceparent
	}
	if len(next) == 0 {
		next = nil
	}
	o.SetAnnotations(next)
}

// singleOwners takes out owner references that are there twice and returns
// upstream's warning if there are any.
func singleOwners(o metav1.Object) []string {
	var kept []metav1.OwnerReference
	var twice []string
	for _, ref := range o.GetOwnerReferences() {
		if slices.ContainsFunc(kept, func(have metav1.OwnerReference) bool { return equality.Semantic.DeepEqual(have, ref) }) {
			if !slices.Contains(twice, string(ref.UID)) {
				twice = append(twice, string(ref.UID))
			}
			continue
		}
		kept = append(kept, ref)
	}
	if len(twice) == 0 {
		return nil
	}
	o.SetOwnerReferences(kept)
	return []string{".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, " +
		"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: " + strings.Join(twice, ", ")}
}

// desiredChanged reports whether anything but metadata and status differs.
func desiredChanged(a, b client.Object) bool {
	if ua, ok := a.(runtime.Unstructured); ok {
		ub, ok := b.(runtime.Unstructured)
		return !ok || !equality.Semantic.DeepEqual(desiredMap(ua), desiredMap(ub))
	}
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	if va.Type() != vb.Type() {
		return true
	}
	for i := range va.NumField() {
		switch va.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta", "Status":
			continue
		}
		if !equality.Semantic.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			return true
		}
	}
	return false
}

func desiredMap(u runtime.Unstructured) map[string]any {
	m := maps.Clone(u.UnstructuredContent())
	for _, k := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(m, k)
	}
	return m
}
