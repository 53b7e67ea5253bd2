package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

const (
	queueLength = 1000
	// sameFor is how long repetitions are counted on one Event object.
	sameFor = 10 * time.Minute
	// remembered bounds the table of recent events.
	remembered = 4096
	// maxSameTime bounds the names tried for events of one object at one
	// moment.
	maxSameTime = 10
)

// Config names the source of a Recorder's events.
type Config struct {
	// Component as it appears in the event's source, e.g. "kubelet",
	// "default-scheduler", "deployment-controller".
	Component string
	// Host is the node name, for components that run per node.
	Host string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Recorder writes Events. It is safe for concurrent use. Events recorded
// before Run or after it ended are queued up to a bound and then dropped.
type Recorder struct {
	cfg     Config
	client  client.Client
	tel     *telemetry.Component
	queue   chan record
	dropped prometheus.Counter
	recent  map[sameness]*seen // used by Run's goroutine only
}

type record struct {
	about           corev1.ObjectReference
	kind            string // Normal or Warning
	reason, message string
	at              time.Time
}

// sameness is what makes two records the same event.
type sameness struct {
	about           corev1.ObjectReference
	kind            string
	reason, message string
}

type seen struct {
	key   client.Key
	last  time.Time
	count int
}

// NewRecorder returns a recorder that writes through c.
func NewRecorder(cfg Config, c client.Client, tel *telemetry.Component) *Recorder {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Recorder{
		cfg: cfg, client: c, tel: tel,
		queue:   make(chan record, queueLength),
		recent:  map[sameness]*seen{},
		dropped: droppedCounter(tel.Registry).WithLabelValues(cfg.Component),
	}
}

// droppedCounter returns the registry's one counter: a component may have
// several recorders, and several may write as one source.
func droppedCounter(reg prometheus.Registerer) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "binnacle_events_dropped_total",
		Help: "Events that could not be recorded: the queue was full or the API refused them.",
	}, []string{"source"})
	var have prometheus.AlreadyRegisteredError
	if err := reg.Register(vec); errors.As(err, &have) {
		return have.ExistingCollector.(*prometheus.CounterVec)
	} else if err != nil {
		panic(err) // another metric has the name
	}
	return vec
}

// Event records that something happened to about, an API object. kind is
// corev1.EventTypeNormal or corev1.EventTypeWarning.
func (r *Recorder) Event(about client.Object, kind, reason, format string, args ...any) {
	r.EventRef(r.reference(about), kind, reason, format, args...)
}

// EventRef is Event for callers that have a reference, e.g. one with a
// FieldPath ("spec.containers{web}").
func (r *Recorder) EventRef(about corev1.ObjectReference, kind, reason, format string, args ...any) {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	select {
	case r.queue <- record{about, kind, reason, message, r.cfg.Now()}:
	default:
		r.dropped.Inc()
	}
}

// Reference returns how events name obj.
func (r *Recorder) reference(obj client.Object) corev1.ObjectReference {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Kind == "" {
		gvk = r.kindOf(obj)
	}
	return corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(),
	}
}

func (r *Recorder) kindOf(obj client.Object) schema.GroupVersionKind {
	kinds, _, err := objectKinds(obj)
	if err != nil || len(kinds) == 0 {
		return schema.GroupVersionKind{}
	}
	return kinds[0]
}

// Run writes queued events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case rec := <-r.queue:
			if err := r.write(ctx, rec); err != nil && ctx.Err() == nil {
				r.dropped.Inc()
				if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
					continue // nobody will look there any more
				}
				r.tel.Log.Warn("cannot record event", "reason", rec.reason,
					"kind", rec.about.Kind, "namespace", rec.about.Namespace, "name", rec.about.Name, "err", err)
			}
		}
	}
}

func (r *Recorder) write(ctx context.Context, rec record) error {
	same := sameness{rec.about, rec.kind, rec.reason, rec.message}
	same.about.ResourceVersion = ""
	if s := r.recent[same]; s != nil && rec.at.Sub(s.last) < sameFor {
		err := r.recount(ctx, s.key, s.count+1, rec.at)
		if err == nil {
			s.last, s.count = rec.at, s.count+1
			return nil
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	ev := r.event(rec)
	for n := int64(1); ; n++ {
		_, err := client.Create(ctx, r.client, ev)
		if err == nil {
			break
		}
		if !apierrors.IsAlreadyExists(err) || n > maxSameTime {
			return err
		}
		ev.Name = eventName(rec, n) // two events at one moment
	}
	r.remember(same, &seen{client.KeyOf(ev), rec.at, 1})
	return nil
}

// recount raises an event's count by a patch: agents may write events but not
// read them.
func (r *Recorder) recount(ctx context.Context, key client.Key, count int, at time.Time) error {
	body, err := json.Marshal(map[string]any{"count": count, "lastTimestamp": metav1.NewTime(at)})
	if err != nil {
		return err
	}
	_, err = client.Patch[*corev1.Event](ctx, r.client, key.Namespace, key.Name, types.MergePatchType, body, client.WriteOptions{})
	return err
}

func (r *Recorder) remember(same sameness, s *seen) {
	if len(r.recent) >= remembered {
		for k, v := range r.recent {
			if s.last.Sub(v.last) >= sameFor {
				delete(r.recent, k)
			}
		}
	}
	if len(r.recent) < remembered {
		r.recent[same] = s
	}
}

// eventName is upstream's: the object and the time in nanoseconds, hex.
func eventName(rec record, offset int64) string {
	return fmt.Sprintf("%s.%x", rec.about.Name, rec.at.UnixNano()+offset)
}

func (r *Recorder) event(rec record) *corev1.Event {
	namespace := rec.about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	at := metav1.NewTime(rec.at)
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: eventName(rec, 0)},
		InvolvedObject:      rec.about,
		Type:                rec.kind,
		Reason:              rec.reason,
		Message:             rec.message,
		Source:              corev1.EventSource{Component: r.cfg.Component, Host: r.cfg.Host},
		FirstTimestamp:      at,
		LastTimestamp:       at,
		Count:               1,
		ReportingController: r.cfg.Component,
		ReportingInstance:   r.cfg.Host,
	}
}
