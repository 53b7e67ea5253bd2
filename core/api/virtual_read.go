package api

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/client"
	"binnacle.io/core/store"
)

// Reader answers reads of a virtual kind: one that is computed, not stored.
type Reader interface {
	// Get returns one object or a NotFound Status.
	Get(ctx context.Context, key client.Key) (client.Object, error)
	// List returns the objects of a namespace, or all with an empty one; what
	// the caller selects by label and name is selected afterwards.
	List(ctx context.Context, namespace string) ([]client.Object, error)
}

// ServeVirtual lets r answer get and list of a virtual kind of the catalogue
// (the kind's Verbs must name them). It may be called while requests are served.
func (s *Server) ServeVirtual(gr schema.GroupResource, r Reader) { s.readers.Store(gr, r) }

func (s *Server) reader(q *request) (Reader, error) {
	r, ok := s.readers.Load(q.gr())
	if !ok {
		return nil, notImplemented("reading " + q.gr().String())
	}
	return r.(Reader), nil
}

func (s *Server) getVirtual(ctx context.Context, q *request) (client.Object, error) {
	r, err := s.reader(q)
	if err != nil {
		return nil, err
	}
	o, err := r.Get(ctx, q.key)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
	return o, nil
}

func (s *Server) listVirtual(ctx context.Context, q *request, f store.Filter) ([]client.Object, error) {
	r, err := s.reader(q)
	if err != nil {
		return nil, err
	}
	all, err := r.List(ctx, q.key.Namespace)
	if err != nil {
		return nil, err
	}
	var out []client.Object
	for _, o := range all {
		if f.Labels != nil && !f.Labels.Matches(labels.Set(o.GetLabels())) {
			continue
		}
		set := fields.Set{}
		if q.kind.Fields != nil {
			set = q.kind.Fields(o)
		}
		set["metadata.name"], set["metadata.namespace"] = o.GetName(), o.GetNamespace()
		if f.Fields != nil && !f.Fields.Matches(set) {
			continue
		}
		o.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
		out = append(out, o)
	}
	return out, nil
}

// componentStatuses reports the health of etcd and of the components that run
// beside the server.
type componentStatuses struct{ s *Server }

func (c componentStatuses) all() []Check {
	return append([]Check{{Name: "etcd-0", OK: c.s.store.Healthy}}, c.s.cfg.Components...)
}

func (c componentStatuses) status(ctx context.Context, check Check) *corev1.ComponentStatus {
	cond := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err := check.OK(ctx); err != nil {
		cond.Status, cond.Message, cond.Error = corev1.ConditionFalse, "", err.Error()
	}
	return &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: check.Name}, Conditions: []corev1.ComponentCondition{cond}}
}

// Get implements Reader.
func (c componentStatuses) Get(ctx context.Context, key client.Key) (client.Object, error) {
	for _, check := range c.all() {
		if check.Name == key.Name {
			return c.status(ctx, check), nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "componentstatuses"}, key.Name)
}

// List implements Reader.
func (c componentStatuses) List(ctx context.Context, _ string) ([]client.Object, error) {
	var out []client.Object
	for _, check := range c.all() {
		out = append(out, c.status(ctx, check))
	}
	return out, nil
}
