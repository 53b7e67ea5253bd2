package api

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// Client returns the in-process door for an identity. The last part of the
// user's name ("deployment-controller") is the default field manager.
func (s *Server) Client(user *auth.User) client.Client {
	return &door{s: s, user: auth.Authenticated(user)}
}

// door implements client.Client below decoding.
type door struct {
	s    *Server
	user *auth.User
}

func (d *door) As(user string, groups ...string) client.Client {
	return d.s.Client(&auth.User{Name: user, Groups: slices.Clone(groups)})
}

func (d *door) ResourceOf(obj runtime.Object) (client.Resource, error) {
	k, err := d.s.kinds.Of(obj)
	if err != nil {
		return client.Resource{}, err
	}
	return k.GroupResource(), nil
}

// request resolves what a call is about.
func (d *door) request(verb string, r client.Resource, key client.Key, sub string) (*request, error) {
	k, ok := d.s.kinds.ByGroupResource(r)
	if !ok {
		return nil, apierrors.NewNotFound(r, "")
	}
	q := &request{
		user: d.user, verb: verb, kind: k, as: versionOf(k, nil), key: key,
		fieldValidation: validateIgnore, start: time.Now(),
	}
	if k.ClusterScoped {
		q.key.Namespace = ""
	}
	verbs := verbsOf(k)
	if sub != "" {
		if q.sub = findSub(k, sub); q.sub == nil {
			return nil, apierrors.NewNotFound(r, key.Name)
		}
		verbs = q.sub.Verbs
	}
	if !slices.Contains(verbs, verb) {
		return nil, apierrors.NewMethodNotSupported(r, verb)
	}
	return q, nil
}

// do runs f as a request: authorized, timed, audited, and traced unless it is
// a read.
func (d *door) do(ctx context.Context, q *request, f func(ctx context.Context) error) (err error) {
	ctx = auth.WithUser(ctx, d.user)
	g := q.as.gvk
	if mutates(q.verb) {
		name := q.verb + " " + q.kind.Resource
		if q.sub != nil {
			name += "/" + q.sub.Name
		}
		var span trace.Span
		ctx, span = d.s.tel.Tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(
			resourceAttributes([]attribute.KeyValue{attribute.String("user.name", d.user.Name)},
				q.verb, g.Group, g.Version, q.kind.Resource, q.subName(), q.key.Namespace, q.key.Name)...))
		defer func() { telemetry.End(span, err) }()
	}
	record := d.s.inProcess(d.user, q)
	if mutates(q.verb) {
		ctx = audit.With(ctx, record)
	}
	defer func() {
		err = asStatus(err)
		d.finish(q, err)
		d.s.inProcessDone(record, q, err)
	}()
	if err := d.s.authorize(ctx, q.attributes()); err != nil {
		return err
	}
	return f(ctx)
}

// read runs f as a get or list. One from the cache is what a look into an
// informer's cache is elsewhere: authorized, but no request to be counted.
func (d *door) read(ctx context.Context, q *request, opts client.ReadOptions, f func(ctx context.Context) error) error {
	if !opts.FromCache {
		return d.do(ctx, q, f)
	}
	if err := d.s.authorize(ctx, q.attributes()); err != nil {
		return err
	}
	return asStatus(f(ctx))
}

func (d *door) finish(q *request, err error) {
	g := q.as.gvk
	code := http.StatusOK
	if err != nil {
		code = int(statusOf(err).Code)
	}
	if d.user.Name == selfUser {
		d.s.metrics.own.WithLabelValues(metricVerb(q.verb, q.subName()), g.Group, q.kind.Resource, q.subName()).Inc()
	}
	d.s.metrics.observe(&observation{
		verb: metricVerb(q.verb, q.subName()), group: g.Group, version: g.Version, resource: q.kind.Resource, sub: q.subName(),
		scope: scopeOf(q.key.Namespace, q.key.Name, q.verb), dryRun: q.dryRun, long: q.verb == "watch", code: code, took: time.Since(q.start),
	})
}

func readFreshness(o client.ReadOptions) store.Freshness {
	if o.FromCache {
		return store.Any()
	}
	return store.Latest()
}

func (d *door) Get(ctx context.Context, r client.Resource, key client.Key, opts client.ReadOptions) (out client.Object, err error) {
	q, err := d.request("get", r, key, "")
	if err != nil {
		return nil, err
	}
	err = d.read(ctx, q, opts, func(ctx context.Context) error {
		if q.kind.Virtual {
			out, err = d.s.getVirtual(ctx, q)
			return err
		}
		e, err := d.s.store.Get(ctx, q.gr(), q.key, readFreshness(opts))
		if err == nil {
			out = e.Object
		}
		return err
	})
	return out, err
}

func (d *door) filter(q *request, opts client.ReadOptions) (store.Filter, error) {
	return newFilter(q.kind, q.key.Namespace, opts.Labels, opts.Fields)
}

// selectedName is the one name that opts select, or "".
func selectedName(opts client.ReadOptions) string {
	if opts.Fields == nil {
		return ""
	}
	name, _ := opts.Fields.RequiresExactMatch("metadata.name")
	return name
}

func (d *door) List(ctx context.Context, r client.Resource, opts client.ReadOptions) (out client.List, err error) {
	q, err := d.request("list", r, client.Key{Namespace: opts.Namespace}, "")
	if err != nil {
		return out, err
	}
	q.selected, q.fields, q.labels = selectedName(opts), opts.Fields, opts.Labels
	err = d.read(ctx, q, opts, func(ctx context.Context) error {
		f, err := d.filter(q, opts)
		if err != nil {
			return err
		}
		if q.kind.Virtual {
			out.Revision = strconv.FormatInt(d.s.store.Revision(), 10)
			out.Items, err = d.s.listVirtual(ctx, q, f)
			return err
		}
		snap, err := d.s.store.Snapshot(ctx, q.gr(), readFreshness(opts))
		if err != nil {
			return err
		}
		out.Revision = strconv.FormatInt(snap.Revision(), 10)
		for e := range snap.Select(f) {
			out.Items = append(out.Items, e.Object)
		}
		return nil
	})
	return out, err
}

func (d *door) Watch(ctx context.Context, r client.Resource, from string, opts client.ReadOptions) (out client.Watch, err error) {
	q, err := d.request("watch", r, client.Key{Namespace: opts.Namespace}, "")
	if err != nil {
		return nil, err
	}
	q.selected, q.fields, q.labels = selectedName(opts), opts.Fields, opts.Labels
	err = d.do(ctx, q, func(ctx context.Context) error {
		f, err := d.filter(q, opts)
		if err != nil {
			return err
		}
		rv, err := parseRevision(from)
		if err != nil {
			return err
		}
		start, err := d.s.startWatch(ctx, q, f, rv, from == "", readFreshness(opts))
		if err != nil {
			return err
		}
		out = &doorWatch{cursor: start.cursor, initial: start.initial, revision: start.revision, pending: from == "", done: make(chan struct{})}
		return nil
	})
	return out, err
}

// doorWatch sends the initial state, a bookmark, then the cursor's events.
type doorWatch struct {
	cursor   *store.Cursor
	initial  []*store.Entry
	revision int64
	pending  bool // initial state or its bookmark not sent
	done     chan struct{}
	once     sync.Once
}

func (w *doorWatch) Next(ctx context.Context) (client.Event, error) {
	select {
	case <-w.done:
		return client.Event{}, io.EOF
	default:
	}
	if err := ctx.Err(); err != nil {
		return client.Event{}, err
	}
	if w.pending {
		if len(w.initial) > 0 {
			e := w.initial[0]
			w.initial = w.initial[1:]
			return client.Event{Type: client.Added, Object: e.Object, Revision: e.Object.GetResourceVersion()}, nil
		}
		w.pending, w.initial = false, nil
		return client.Event{Type: client.Bookmark, Revision: strconv.FormatInt(w.revision, 10)}, nil
	}
	ev, err := w.cursor.Next(ctx)
	if err != nil {
		return client.Event{}, err
	}
	return client.Event{Type: ev.Type, Object: ev.Entry.Object, Revision: strconv.FormatInt(ev.Revision, 10)}, nil
}

func (w *doorWatch) Close() {
	w.once.Do(func() {
		close(w.done)
		w.cursor.Close()
	})
}

func (d *door) write(q *request, opts client.WriteOptions) {
	q.manager, q.force, q.dryRun = opts.FieldManager, opts.Force, opts.DryRun
	if q.manager == "" {
		q.manager = clientManager(d.user.Name)
	}
}

// clientManager names a client that does not name itself: the last part of its
// user name.
func clientManager(user string) string {
	for i := len(user) - 1; i >= 0; i-- {
		if user[i] == ':' && i+1 < len(user) {
			return user[i+1:]
		}
	}
	return user
}

func (d *door) Create(ctx context.Context, r client.Resource, key client.Key, obj client.Object, opts client.WriteOptions) (out client.Object, err error) {
	if key == (client.Key{}) {
		key = client.KeyOf(obj)
	}
	if key.Namespace == "" {
		key.Namespace = obj.GetNamespace()
	}
	q, err := d.request("create", r, key, opts.Subresource)
	if err != nil {
		return nil, err
	}
	d.write(q, opts)
	err = d.do(ctx, q, func(ctx context.Context) error {
		own := clone(obj)
		switch {
		case q.sub != nil:
			out, err = d.s.createSub(ctx, q, own)
			return err
		case q.kind.Virtual:
			out, err = d.s.answerVirtual(ctx, q, own)
			return err
		}
		own.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
		r, err := d.s.create(ctx, q, own, false)
		out = r.object
		return err
	})
	return out, err
}

func (d *door) Update(ctx context.Context, r client.Resource, obj client.Object, opts client.WriteOptions) (out client.Object, err error) {
	q, err := d.request("update", r, client.KeyOf(obj), opts.Subresource)
	if err != nil {
		return nil, err
	}
	d.write(q, opts)
	err = d.do(ctx, q, func(ctx context.Context) error {
		if q.sub != nil {
			out, err = d.s.updateSub(ctx, q, clone(obj))
			return err
		}
		own := clone(obj)
		own.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
		r, err := d.s.put(ctx, q, own)
		out = r.object
		return err
	})
	return out, err
}

func (d *door) Patch(ctx context.Context, r client.Resource, key client.Key, pt types.PatchType, body []byte, opts client.WriteOptions) (out client.Object, err error) {
	q, err := d.request("patch", r, key, opts.Subresource)
	if err != nil {
		return nil, err
	}
	d.write(q, opts)
	err = d.do(ctx, q, func(ctx context.Context) error {
		if q.sub != nil {
			out, _, err = d.s.patchSub(ctx, q, pt, body)
			return err
		}
		r, err := d.s.patch(ctx, q, pt, body)
		out = r.object
		return err
	})
	return out, err
}

func (d *door) Delete(ctx context.Context, r client.Resource, key client.Key, opts client.DeleteOptions) error {
	q, err := d.request("delete", r, key, "")
	if err != nil {
		return err
	}
	o := &metav1.DeleteOptions{GracePeriodSeconds: opts.GracePeriodSeconds}
	if opts.UID != "" || opts.Revision != "" {
		o.Preconditions = &metav1.Preconditions{}
		if opts.UID != "" {
			o.Preconditions.UID = &opts.UID
		}
		if opts.Revision != "" {
			o.Preconditions.ResourceVersion = &opts.Revision
		}
	}
	if opts.Propagation != "" {
		o.PropagationPolicy = &opts.Propagation
	}
	return d.do(ctx, q, func(ctx context.Context) error {
		_, err := d.s.delete(ctx, q, o)
		return err
	})
}
