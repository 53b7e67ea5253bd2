package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

	out := &watchWriter{s: s, c: c, q: q, f: f, ctl: http.NewResponseController(c.w), objects: s.rendering(q.as, f.media)}
	if f.as == "PartialObjectMetadata" {
		out.objects = s.metaRendering(f.asVersion, f.media)
	}
	g := q.as.gvk
	out.events = s.metrics.watchEvents.WithLabelValues(g.Group, g.Version, q.kind.Resource)
	out.sizes = s.metrics.watchSizes.WithLabelValues(g.Group, g.Version, q.kind.Resource)
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
	s.initialized(c, len(start.initial))
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
	var due time.Time
	if bookmarks {
		due = time.Now().Add(s.cfg.BookmarkInterval)
		if end, ok := ctx.Deadline(); ok && end.Add(-2*time.Second).Before(due) {
			due = end.Add(-2 * time.Second)
		}
	}
	for {
		err := followUntil(ctx, out, cur, due)
		if errors.Is(err, errBookmarkDue) {
			due = time.Now().Add(s.cfg.BookmarkInterval)
			err = out.bookmark(cur.Bookmark(), false)
		}
		out.flush()
		if err != nil {
			return
		}
	}
}

// followUntil sends events until a bookmark is due; a zero time is never.
func followUntil(ctx context.Context, out *watchWriter, cur *store.Cursor, due time.Time) error {
	until := ctx
	if !due.IsZero() {
		var cancel context.CancelFunc
		until, cancel = context.WithDeadline(ctx, due)
		defer cancel()
	}
	for {
		ev, err := cur.Await(until, out.idle)
		if err != nil && until.Err() != nil && ctx.Err() == nil {
			return errBookmarkDue
		}
		switch {
		case err == nil:
			err = out.send(ev.Type, ev.Entry)
		case ctx.Err() == nil && !errors.Is(err, io.EOF):
			out.fail(err)
		}
		if err != nil {
			return err
		}
	}
}

var errBookmarkDue = errors.New("a bookmark is due")

// A client on HTTP/1.1 that reads nothing for stalledAfter is cut off; the
// deadline is moved at most every stalledCheck. On HTTP/2 a client whose
// connection stands still does not answer pings, and one that leaves a single
// stream unread holds nothing but that stream.
const (
	stalledAfter = time.Minute
	stalledCheck = 15 * time.Second
)

// watchWriter frames events for one client.
type watchWriter struct {
	s   *Server
	c   *call
	q   *request
	f   format
	ctl *http.ResponseController
	// objects makes what events carry, unless those are Tables.
	objects *rendering
	events  prometheus.Counter
	sizes   prometheus.Observer
	// columns have been sent (Table).
	columns bool

	head     []byte // of the frame being written, reused
	out      chunks // its buffer is borrowed while it holds something
	deadline time.Time
}

func (w *watchWriter) write(p []byte) error {
	if w.out.buf == nil {
		w.out.to, w.out.buf = w.c.w, borrow(&w.s.buffers.chunks, chunkBytes)
		w.patience()
	}
	_, err := w.out.Write(p)
	return err
}

func (w *watchWriter) flush() {
	if w.out.buf != nil {
		if w.out.flush(); w.out.err == nil {
			giveBack(&w.s.buffers.chunks, w.out.buf)
			w.out.buf = nil
		}
	}
	// A client that is gone is found by the next write.
	_ = w.ctl.Flush()
}

// idle flushes what has been written, if anything has.
func (w *watchWriter) idle() {
	if w.out.buf != nil {
		w.flush()
	}
}

// patience moves the deadline of writes.
func (w *watchWriter) patience() {
	if now := time.Now(); w.c.r.ProtoMajor == 1 && now.Sub(w.deadline) > stalledCheck-stalledAfter {
		w.deadline = now.Add(stalledAfter)
		// Connections without deadlines (tests) have no network to stall.
		_ = w.ctl.SetWriteDeadline(w.deadline)
	}
}

func (w *watchWriter) send(t client.EventType, e *store.Entry) error {
	var data []byte
	var err error
	if w.f.as == "Table" {
		data, err = w.tableBytes([]client.Object{e.Object}, e.Object.GetResourceVersion())
	} else {
		data, err = w.objects.entry(e)
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
	if w.f.as == "Table" {
		// The annotation is on its row's metadata, as upstream.
		data, err = w.tableBytes([]client.Object{o}, o.GetResourceVersion())
	} else {
		data, err = w.objects.object(o)
	}
	if err != nil {
		w.fail(err)
		return err
	}
	return w.event(client.Bookmark, data)
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
	tail := ""
	w.head = w.head[:0]
	if w.f.protobuf() {
		// WatchEvent.object is a RawExtension, whose field 1 is the object.
		size := fieldSize(len(object))
		w.head = append(w.head, 0, 0, 0, 0)
		w.head = appendField(w.head, 1<<3|2, []byte(t))
		w.head = append(w.head, 2<<3|2)
		w.head = binary.AppendUvarint(w.head, uint64(size))
		w.head = append(w.head, 1<<3|2)
		w.head = binary.AppendUvarint(w.head, uint64(len(object)))
		binary.BigEndian.PutUint32(w.head, uint32(len(w.head)+len(object)-4))
	} else {
		object = bytes.TrimRight(object, "\n")
		w.head = append(w.head, `{"type":"`...)
		w.head = append(w.head, t...)
		w.head = append(w.head, `","object":`...)
		tail = "}\n"
	}
	w.events.Inc()
	w.sizes.Observe(float64(len(w.head) + len(object) + len(tail)))
	err := w.write(w.head)
	if err == nil {
		err = w.write(object)
	}
	if err == nil && tail != "" {
		err = w.write([]byte(tail))
	}
	return err
}
