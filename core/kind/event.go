package kind

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func eventKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Event, corev1.EventList](gv, "events", "ev")
	k.AnyFinalizer = true
	// An Event may be named after anything.
	k.ValidateName = func(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }
	k.Validate = check1(func(e *corev1.Event) field.ErrorList { return validateEvent(e, "reportingComponent") })
	k.ValidateUpdate = check2(func(e, _ *corev1.Event) field.ErrorList { return validateEvent(e, "reportingComponent") })
	k.Fields = select1(eventFields)
	k.Untraced = true
	k.Columns = eventColumns()
	v1 := typedVersion[eventsv1.Event, eventsv1.EventList](eventsv1.SchemeGroupVersion, eventToCore, eventFromCore)
	v1.Validate, v1.ValidateUpdate = check1(validateEventV1), check2(validateEventV1Update)
	k.Versions = []Version{v1}
	return k
}

// eventToCore and eventFromCore rename: both versions hold the same.

func eventToCore(e *eventsv1.Event) (*corev1.Event, error) {
	e = e.DeepCopy()
	out := &corev1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Reason:              e.Reason,
		Message:             e.Note,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
		Type:                e.Type,
		EventTime:           e.EventTime,
		Action:              e.Action,
		Related:             e.Related,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

func eventFromCore(e *corev1.Event) (*eventsv1.Event, error) {
	e = e.DeepCopy()
	out := &eventsv1.Event{
		TypeMeta:                 metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta:               e.ObjectMeta,
		EventTime:                e.EventTime,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		Action:                   e.Action,
		Reason:                   e.Reason,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related,
		Note:                     e.Message,
		Type:                     e.Type,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

// validateEvent holds events of the old style, without eventTime, to less.
// controller is what the version calls the reporting controller.
func validateEvent(e *corev1.Event, controller string) field.ErrorList {
	var errs field.ErrorList
	legacy := e.EventTime.IsZero()
	switch namespace := e.InvolvedObject.Namespace; {
	case namespace == "" && e.Namespace != "" && e.Namespace != metav1.NamespaceDefault && (legacy || e.Namespace != metav1.NamespaceSystem),
		// Events about things that have no namespace live in default.
		namespace != "" && legacy && e.Namespace != namespace:
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), namespace, "does not match event.namespace"))
	}
	if !legacy {
		at := field.NewPath(controller)
		errs = append(errs, required(at, e.ReportingController, nil)...)
		errs = append(errs, invalids(at, e.ReportingController, validation.IsQualifiedName(e.ReportingController))...)
		short := func(name, value string, limit int) {
			if len(value) > limit {
				errs = append(errs, field.Invalid(field.NewPath(name), "", fmt.Sprintf("can have at most %v characters", limit)))
			}
		}
		for _, f := range []struct{ name, value string }{
			{"reportingInstance", e.ReportingInstance}, {"action", e.Action}, {"reason", e.Reason},
		} {
			errs = append(errs, required(field.NewPath(f.name), f.value, nil)...)
			short(f.name, f.value, 128)
		}
		short("message", e.Message, 1024)
	}
	return append(errs, invalids(field.NewPath("namespace"), e.Namespace, validation.IsDNS1123Label(e.Namespace))...)
}

// validateEventV1 is for events.k8s.io/v1, which knows the new style only and
// names fields as the hub does.
func validateEventV1(e *corev1.Event) field.ErrorList {
	errs := validateEvent(e, "reportingController")
	if e.Name != "" {
		errs = append(errs, invalids(field.NewPath("metadata", "name"), e.Name, subdomain(e.Name))...)
	}
	errs = append(errs, qualifiedFinalizers(e)...)
	errs = append(errs, validateEventSeries(e.Series)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()}, {"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0}, {"source", e.Source != corev1.EventSource{}},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", "needs to be unset"))
		}
	}
	return errs
}

// validateEventV1Update lets nothing but the series change.
func validateEventV1Update(e, old *corev1.Event) field.ErrorList {
	errs := validateEvent(e, "reportingController")
	errs = append(errs, qualifiedFinalizers(e)...)
	if !apiequality.Semantic.DeepEqual(e.Series, old.Series) {
		errs = append(errs, validateEventSeries(e.Series)...)
	}
	same := func(name string, value, old any) {
		errs = append(errs, unchanged(field.NewPath(name), value, old)...)
	}
	same("involvedObject", e.InvolvedObject, old.InvolvedObject)
	same("reason", e.Reason, old.Reason)
	same("message", e.Message, old.Message)
	same("source", e.Source, old.Source)
	same("firstTimestamp", e.FirstTimestamp, old.FirstTimestamp)
	same("lastTimestamp", e.LastTimestamp, old.LastTimestamp)
	same("count", e.Count, old.Count)
	// Finer than microseconds is lost on the way to clients and back.
	if !e.EventTime.Truncate(time.Microsecond).Equal(old.EventTime.Truncate(time.Microsecond)) {
		same("eventTime", e.EventTime, old.EventTime)
	}
	same("action", e.Action, old.Action)
	same("related", e.Related, old.Related)
	same("reportingController", e.ReportingController, old.ReportingController)
	same("reportingInstance", e.ReportingInstance, old.ReportingInstance)
	same("type", e.Type, old.Type)
	return errs
}

func validateEventSeries(s *corev1.EventSeries) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	p := field.NewPath("series")
	if s.Count < 2 {
		errs = append(errs, field.Invalid(p.Child("count"), "", "should be at least 2"))
	}
	if s.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(p.Child("lastObservedTime"), ""))
	}
	return errs
}

func eventFields(e *corev1.Event) fields.Set {
	o := e.InvolvedObject
	return fields.Set{
		"involvedObject.kind":            o.Kind,
		"involvedObject.namespace":       o.Namespace,
		"involvedObject.name":            o.Name,
		"involvedObject.uid":             string(o.UID),
		"involvedObject.apiVersion":      o.APIVersion,
		"involvedObject.resourceVersion": o.ResourceVersion,
		"involvedObject.fieldPath":       o.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         cmp.Or(e.Source.Component, e.ReportingController),
		"type":                           e.Type,
		// The names of events.k8s.io/v1 for the same.
		"regarding.kind":            o.Kind,
		"regarding.namespace":       o.Namespace,
		"regarding.name":            o.Name,
		"regarding.uid":             string(o.UID),
		"regarding.apiVersion":      o.APIVersion,
		"regarding.resourceVersion": o.ResourceVersion,
		"regarding.fieldPath":       o.FieldPath,
		"reportingController":       e.ReportingController,
	}
}

func eventColumns() []Column {
	doc := corev1.Event{}.SwaggerDoc()
	ref := corev1.ObjectReference{}.SwaggerDoc()
	var c columns[*corev1.Event]
	c = c.at("Last Seen", doc["lastTimestamp"], func(e *corev1.Event, now time.Time) string {
		switch {
		case e.Series != nil:
			return since(metav1.NewTime(e.Series.LastObservedTime.Time), now)
		case !e.LastTimestamp.IsZero():
			return since(e.LastTimestamp, now)
		}
		return firstSeen(e, now)
	}).
		text("Type", doc["type"], func(e *corev1.Event) string { return e.Type }).
		text("Reason", doc["reason"], func(e *corev1.Event) string { return e.Reason }).
		text("Object", doc["involvedObject"], func(e *corev1.Event) string {
			if e.InvolvedObject.Name == "" {
				return strings.ToLower(e.InvolvedObject.Kind)
			}
			return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
		}).
		text("Subobject", ref["fieldPath"], func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }).wide().
		text("Source", doc["source"], func(e *corev1.Event) string {
			component, host := cmp.Or(e.Source.Component, e.ReportingController), cmp.Or(e.Source.Host, e.ReportingInstance)
			if host == "" {
				return component
			}
			return component + ", " + host
		}).wide().
		text("Message", doc["message"], func(e *corev1.Event) string { return strings.TrimSpace(e.Message) }).
		at("First Seen", doc["firstTimestamp"], firstSeen).wide().
		count("Count", doc["count"], func(e *corev1.Event) int64 {
			if e.Series != nil {
				return int64(e.Series.Count)
			}
			return int64(max(e.Count, 1))
		}).as("string").wide()
	return c.name().wide()
}

func firstSeen(e *corev1.Event, now time.Time) string {
	if e.FirstTimestamp.IsZero() {
		return since(metav1.NewTime(e.EventTime.Time), now)
	}
	return since(e.FirstTimestamp, now)
}

// typedVersion is a version whose objects are converted by code.
func typedVersion[T, L any, H Object, PT interface {
	*T
	Object
}, PL interface {
	*L
	runtime.Object
}](gv schema.GroupVersion, toHub func(PT) (H, error), fromHub func(H) (PT, error)) Version {
	kind := kindName[T]()
	return Version{
		GroupVersionKind: gv.WithKind(kind),
		New:              func() runtime.Object { return PT(new(T)) },
		NewList:          func() runtime.Object { return PL(new(L)) },
		ToHub: func(o runtime.Object) (Object, error) {
			t, ok := o.(PT)
			if !ok {
				return nil, fmt.Errorf("cannot convert %T: it is not a %s %s", o, gv, kind)
			}
			return toHub(t)
		},
		FromHub: func(o Object) (runtime.Object, error) {
			h, ok := o.(H)
			if !ok {
				return nil, fmt.Errorf("cannot convert %T to %s %s", o, gv, kind)
			}
			return fromHub(h)
		},
	}
}
