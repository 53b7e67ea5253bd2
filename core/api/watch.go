package api

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
	"binnacle.io/core/store"
)

// watchStart is where a watch begins: a state to send, then a cursor.
type watchStart struct {
	initial  []*store.Entry
	revision int64 // of the initial state
	cursor   *store.Cursor
}

// startWatch begins after revision from; with initial, it sends the present
// state first.
func (s *Server) startWatch(ctx context.Context, q *request, f store.Filter, from int64, initial bool, fresh store.Freshness) (*watchStart, error) {
	w := &watchStart{}
	if initial {
		snap, err := s.store.Snapshot(ctx, q.gr(), fresh)
		if err != nil {
			return nil, err
		}
		for e := range snap.Select(f) {
			w.initial = append(w.initial, e)
		}
		from = snap.Revision()
	}
	cursor, err := s.store.Watch(ctx, q.gr(), from, f)
	if err != nil {
		return nil, err
	}
	w.cursor, w.revision = cursor, from
	return w, nil
}

// serveWatch answers a watch over HTTP.
func (s *Server) serveWatch(c *call, q *request) error {
	o, err := parseListOptions(q, c.r.URL.Query(), true)
	if err != nil {
		return err
	}
	rv, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return err
	}
	f, err := negotiate(c.r, metaTransform("get"))
	if err != nil {
		return err
	}
	if f.media == mediaYAML {
		return notAcceptable(mediaJSON + ", " + mediaProtobuf + ";stream=watch")
	}
	if f.protobuf() && f.as == "" {
		if _, ok := q.as.empty().(runtime.ProtobufMarshaller); !ok {
			return notAcceptable(mediaJSON)
		}
	}

	wait := s.cfg.MinWatchTimeout + time.Duration(rand.Int64N(int64(s.cfg.MinWatchTimeout)))
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		wait = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), wait)
	defer cancel()
	go s.endOnStop(ctx, cancel)

	initial, fresh := o.ResourceVersion == "" || rv == 0, store.Latest()
	if o.SendInitialEvents != nil {
		initial = *o.SendInitialEvents
		if initial && rv > 0 {
			fresh = store.NotOlderThan(rv)
		}
	}
	if o.ResourceVersion == "0" {
		fresh = store.Any()
	}
	start, err := s.startWatch(ctx, q, o.filter, rv, initial, fresh)
	if err != nil && !apierrors.IsResourceExpired(err) {
		return err
	}

	out := &watchWriter{s: s, c: c, q: q, f: f, ctl: http.NewResponseController(c.w)}
	h := c.w.Header()
	h.Set("Content-Type", f.contentType(true))
	c.sendWarnings(q)
	c.w.WriteHeader(http.StatusOK)
	out.flush()
	if err != nil {
		out.fail(err)
		return nil
	}
	defer start.cursor.Close()
	for _, e := range start.initial {
		if err := out.send(client.Added, e); err != nil {
			return nil
		}
	}
	if o.SendInitialEvents != nil && initial && o.AllowWatchBookmarks {
		if err := out.bookmark(start.revision, true); err != nil {
			return nil
		}
	}
	out.flush()
	start.initial = nil
	s.follow(ctx, out, start.cursor, o.AllowWatchBookmarks)
	return nil
}

// endOnStop ends a watch when the server stops.
func (s *Server) endOnStop(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-s.stopping:
		cancel()
	case <-ctx.Done():
	}
}

// follow sends events until the client goes, the time is over or the cursor is
// lost.
func (s *Server) follow(ctx context.Context, out *watchWriter, cur *store.Cursor, bookmarks bool) {
	next := time.Now().Add(s.cfg.BookmarkInterval)
	if end, ok := ctx.Deadline(); ok && end.Add(-2*time.Second).Before(next) {
		next = end.Add(-2 * time.Second)
	}
	for {
		ev, ready, err := cur.TryNext()
		if err == nil && !ready {
			out.flush()
			ev, err = s.waitEvent(ctx, cur, next, bookmarks)
		}
		switch {
		case errors.Is(err, errBookmarkDue):
			next = time.Now().Add(s.cfg.BookmarkInterval)
			err = out.bookmark(cur.Bookmark(), false)
			out.flush()
		case err == nil:
			err = out.send(ev.Type, ev.Entry)
		case ctx.Err() == nil && !errors.Is(err, io.EOF):
			out.fail(err)
		}
		if err != nil {
			out.flush()
			return
		}
	}
}

var errBookmarkDue = errors.New("a bookmark is due")

func (s *Server) waitEvent(ctx context.Context, cur *store.Cursor, bookmark time.Time, bookmarks bool) (store.Event, error) {
	if !bookmarks {
		return cur.Next(ctx)
	}
	if ctx.Err() == nil && !time.Now().Before(bookmark) {
		return store.Event{}, errBookmarkDue
	}
	until, cancel := context.WithDeadline(ctx, bookmark)
	defer cancel()
	ev, err := cur.Next(until)
	if err != nil && until.Err() != nil && ctx.Err() == nil {
		return ev, errBookmarkDue
	}
	return ev, err
}

// watchWriter frames events for one client.
type watchWriter struct {
	s   *Server
	c   *call
	q   *request
	f   format
	ctl *http.ResponseController
	// columns have been sent (Table).
	columns bool
	buf     []byte
}

func (w *watchWriter) flush() {
	// A client that is gone is found by the next write.
	_ = w.ctl.Flush()
}

func (w *watchWriter) send(t client.EventType, e *store.Entry) error {
	var data []byte
	var err error
	switch w.f.as {
	case "":
		data, err = w.s.entryBytes(e, w.q.as, w.f.media)
	case "Table":
		data, err = w.tableBytes([]client.Object{e.Object}, e.Object.GetResourceVersion())
	default:
		data, err = w.s.codecs.encode(partial(e.Object, w.f.asVersion), w.f.media, false)
	}
	if err != nil {
		w.fail(err)
		return err
	}
	return w.event(t, data)
}

func (w *watchWriter) tableBytes(objects []client.Object, rv string) ([]byte, error) {
	t, err := w.s.table(w.q, w.c, w.f, objects, metav1.ListMeta{ResourceVersion: rv}, !w.columns)
	if err != nil {
		return nil, err
	}
	w.columns = true
	return w.s.codecs.encode(t, w.f.media, false)
}

// bookmark tells the client how far it has come.
func (w *watchWriter) bookmark(revision int64, initialEnd bool) error {
	o := w.q.kind.New()
	o.GetObjectKind().SetGroupVersionKind(w.q.kind.Hub)
	o.SetResourceVersion(strconv.FormatInt(revision, 10))
	if initialEnd {
		o.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	var data []byte
	var err error
	switch w.f.as {
	case "":
		data, err = w.s.objectBytes(o, w.q.as, w.f.media)
	case "Table":
		data, err = w.bookmarkTable(o)
	default:
		data, err = w.s.codecs.encode(partial(o, w.f.asVersion), w.f.media, false)
	}
	if err != nil {
		w.fail(err)
		return err
	}
	return w.event(client.Bookmark, data)
}

// bookmarkTable has the annotation on its row's metadata, as upstream.
func (w *watchWriter) bookmarkTable(o client.Object) ([]byte, error) {
	return w.tableBytes([]client.Object{o}, o.GetResourceVersion())
}

// fail ends the stream with an ERROR event.
func (w *watchWriter) fail(err error) {
	st := statusOf(err)
	data, err := w.s.codecs.encode(&st, w.f.media, false)
	if err != nil {
		w.s.tel.Log.Error("watch error not encoded", "error", err)
		return
	}
	// The stream ends either way.
	_ = w.event("ERROR", data)
	w.flush()
}

func (w *watchWriter) event(t client.EventType, object []byte) error {
	w.buf = w.buf[:0]
	if w.f.protobuf() {
		w.buf = append(w.buf, 0, 0, 0, 0)
		w.buf = appendField(w.buf, 1<<3|2, []byte(t))
		// WatchEvent.object is a RawExtension, whose field 1 is the object.
		size := fieldSize(len(object))
		w.buf = append(w.buf, 2<<3|2)
		w.buf = binary.AppendUvarint(w.buf, uint64(size))
		w.buf = appendField(w.buf, 1<<3|2, object)
		binary.BigEndian.PutUint32(w.buf, uint32(len(w.buf)-4))
	} else {
		name, err := json.Marshal(string(t))
		if err != nil {
			return fmt.Errorf("cannot encode event type %q: %w", t, err)
		}
		w.buf = append(w.buf, `{"type":`...)
		w.buf = append(w.buf, name...)
		w.buf = append(w.buf, `,"object":`...)
		for len(object) > 0 && object[len(object)-1] == '\n' {
			object = object[:len(object)-1]
		}
		w.buf = append(w.buf, object...)
		w.buf = append(w.buf, "}\n"...)
	}
	g := w.q.as.gvk
	w.s.metrics.watchEvents.WithLabelValues(g.Group, g.Version, w.q.kind.Resource).Inc()
	w.s.metrics.watchSizes.WithLabelValues(g.Group, g.Version, w.q.kind.Resource).Observe(float64(len(w.buf)))
	_, err := w.c.w.Write(w.buf)
	return err
}
