package flowcontrol

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Config says how much there is to divide.
type Config struct {
	// Seats is how many requests of width one the server runs at once, exempt
	// ones left out. Default 600, upstream's sum of its two limits.
	Seats int
	// Objects counts what lists will read. Nil: a list counts as any request.
	Objects Counter
}

// Request is what a decision depends on.
type Request struct {
	auth.Attributes
	// RawQuery is read for lists and watches only.
	RawQuery string
	// MaxWait bounds the time in a queue; at most one minute counts.
	MaxWait time.Duration
}

// Decision says what was decided and why.
type Decision struct {
	Schema, Level string
	// Flow is what tells this flow from others of the schema.
	Flow string
	// Seats that the request holds until it ends, and for how long on.
	Seats  int
	Linger time.Duration
	// Queue is the queue it waited in, -1 if none; Waited how long.
	Queue  int
	Waited time.Duration
	// Refused is "" or why: queue-full, concurrency-limit, time-out, cancelled.
	Refused string
}

// Attributes are those of a span.
func (d Decision) Attributes() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("k8s.flowcontrol.flow_schema", d.Schema), attribute.String("k8s.flowcontrol.priority_level", d.Level),
		attribute.String("k8s.flowcontrol.flow", d.Flow), attribute.Int("k8s.flowcontrol.seats", d.Seats),
		attribute.Int("k8s.flowcontrol.queue", d.Queue), attribute.String("k8s.flowcontrol.refused", d.Refused),
	}
}

// longestWait bounds every wait, as upstream.
const longestWait = time.Minute

// Controller decides for one server. It is safe for concurrent use.
type Controller struct {
	cfg     Config
	tel     *telemetry.Component
	metrics *metrics
	origin  time.Time
	watches watchers
	table   atomic.Pointer[table]
	ready   chan struct{}

	client client.Client // set by Use, before Run

	mu     sync.Mutex // held while the table is replaced or seats are divided anew
	status statusLog
}

// New returns a controller that knows the mandatory configuration only: masters
// are exempt, all others share every seat without queueing. Run brings
// the rest.
func New(cfg Config, tel *telemetry.Component) (*Controller, error) {
	if cfg.Seats == 0 {
		cfg.Seats = 600
	}
	if cfg.Seats < 0 {
		return nil, fmt.Errorf("cannot share %d seats among requests", cfg.Seats)
	}
	c := &Controller{
		cfg: cfg, tel: tel, origin: time.Now(), ready: make(chan struct{}),
		watches: watchers{count: map[watched]int{}},
	}
	var err error
	if c.metrics, err = newMetrics(tel.Registry); err != nil {
		return nil, err
	}
	c.configure(nil, nil)
	return c, nil
}

// Use sets the client through which Run reads and keeps the configuration. It
// acts as a member of system:masters.
func (c *Controller) Use(cl client.Client) { c.client = cl }

// Ready is closed when the stored configuration has been read, completed and
// put in force.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

func (c *Controller) now() instant { return instant(time.Since(c.origin)) }

// level is a priority level at work.
type level struct {
	name string

	// Guarded by Controller.mu: what the schemas that lead here are made of.
	uid    string
	exempt bool
	most   int // seats of the widest request
	// quiescing: no schema leads here any more.
	quiescing bool
	share     share

	mu      sync.Mutex // guards what follows
	class   class
	running Ticket // head of the ring of tickets that have begun

	dispatched, rejected, timedOut, cancelled int
}

// Ticket is a request's right to run. It is used by one goroutine.
type Ticket struct {
	Decision

	c       *Controller
	level   *level
	schema  *flowSchema
	request Request
	work    work
	waiter  *waiter // nil if it did not queue
	arrived time.Time
	began   instant
	forget  func()
	ended   bool

	// The ring of running tickets, guarded by level.mu.
	prev, next *Ticket
}

// Begin returns when the request may run, after waiting if it has to. An error
// is a 429 with upstream's words; the ticket explains it then, and ending it does
// nothing. The caller ends the ticket, and closes it when it is a watch.
func (c *Controller) Begin(ctx context.Context, r Request) (*Ticket, error) {
	s := c.table.Load().classify(&r)
	l := s.level
	t := &Ticket{c: c, level: l, schema: s, request: r, arrived: time.Now()}
	now := instant(t.arrived.Sub(c.origin))
	t.work = work{seats: 1}
	if !s.exempt {
		t.work = estimate(&t.request, s.most, c.cfg.Objects, &c.watches)
	}
	t.Decision = Decision{Schema: s.name, Level: l.name, Flow: s.flow(&r), Seats: t.work.width(), Linger: t.work.extra, Queue: -1}
	s.series.seats.Observe(float64(t.Seats))

	l.mu.Lock()
	if l.class.startNow(now, t.work) {
		l.begin(t, now)
		l.mu.Unlock()
		if !s.exempt {
			s.series.waited.Observe(0)
		}
		t.begun()
		return t, nil
	}
	x, why := l.class.enqueue(now, t.work, flowHash(s.name, t.Flow))
	if x == nil {
		l.rejected++
		l.mu.Unlock()
		return t, t.refuse(why, 0)
	}
	x.ticket, t.waiter, t.Queue = t, x, x.queue.index
	s.series.queueLength.Observe(float64(len(x.queue.waiting)))
	l.wake(l.class.dispatch(now), now)
	l.mu.Unlock()
	return t, t.wait(ctx, min(r.MaxWait, longestWait))
}

// begin notes a ticket that runs. l.mu is held.
func (l *level) begin(t *Ticket, now instant) {
	t.began = now
	l.dispatched++
	t.next, t.prev = l.running.next, &l.running
	if t.next != nil {
		t.next.prev = t
	}
	l.running.next = t
}

// wake lets those run that got seats. l.mu is held.
func (l *level) wake(dispatched []*waiter, now instant) {
	for _, x := range dispatched {
		l.begin(x.ticket, now)
		close(x.ready)
	}
}

// begun counts a request that runs.
func (t *Ticket) begun() {
	m := t.schema.series
	m.dispatched.Inc()
	m.executing.Inc()
	m.executingSeats.Add(float64(t.Seats))
	if t.request.Verb == "watch" && t.request.Path == "" {
		t.forget = t.c.watches.add(&t.request)
	}
}

func (t *Ticket) wait(ctx context.Context, longest time.Duration) error {
	m, l, x := t.schema.series, t.level, t.waiter
	m.queued.Inc()
	m.queuedSeats.Add(float64(t.Seats))
	kind := t.c.metrics.waiting.WithLabelValues(requestKind(t.request.Verb))
	kind.Inc()
	defer func() {
		kind.Dec()
		m.queued.Dec()
		m.queuedSeats.Sub(float64(t.Seats))
	}()

	timer := time.NewTimer(longest)
	defer timer.Stop()
	why := reasonTimeout
	select {
	case <-x.ready:
	case <-timer.C:
	case <-ctx.Done():
		if ctx.Err() == context.Canceled {
			why = reasonCancelled
		}
	}
	now := t.c.now()
	t.Waited = now.sub(x.arrived)
	l.mu.Lock()
	if !x.dispatched {
		l.class.leave(now, x)
		l.rejected++
		if why == reasonTimeout {
			l.timedOut++
		} else {
			l.cancelled++
		}
		// It may have been a wide one that kept others from running.
		l.wake(l.class.dispatch(now), now)
		l.mu.Unlock()
		return t.refuse(why, t.Waited)
	}
	l.mu.Unlock()
	t.Waited = x.started.sub(x.arrived)
	m.waited.Observe(t.Waited.Seconds())
	t.begun()
	return nil
}

func (t *Ticket) refuse(why string, waited time.Duration) error {
	t.ended, t.Refused = true, why
	t.c.metrics.rejected.WithLabelValues(t.Level, t.Schema, why).Inc()
	t.schema.series.refused.Observe(waited.Seconds())
	return apierrors.NewTooManyRequests("Too many requests, please try again later.", 1)
}

// Headers tells the client which schema and level its request was matched by.
func (t *Ticket) Headers(h http.Header) {
	h["X-Kubernetes-Pf-Flowschema-Uid"] = t.schema.uidHeader
	h["X-Kubernetes-Pf-Prioritylevel-Uid"] = t.schema.levelHeader
}

// End gives the seats back. It is safe twice.
func (t *Ticket) End() {
	if t.ended {
		return
	}
	t.ended = true
	now, l, m := t.c.now(), t.level, t.schema.series
	l.mu.Lock()
	l.class.finish(now, t.work, t.waiter)
	t.prev.next = t.next
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.work.extra == 0 {
		l.class.release(now, t.work, t.waiter)
	}
	l.wake(l.class.dispatch(now), now)
	l.mu.Unlock()
	m.executing.Dec()
	m.executed(t.request.Verb).Observe(now.sub(t.began).Seconds())
	if t.work.extra == 0 {
		m.executingSeats.Sub(float64(t.Seats))
		return
	}
	// The seats stay taken while watchers are told: milliseconds.
	time.AfterFunc(t.work.extra, t.linger)
}

func (t *Ticket) linger() {
	now, l := t.c.now(), t.level
	l.mu.Lock()
	l.class.release(now, t.work, t.waiter)
	l.wake(l.class.dispatch(now), now)
	l.mu.Unlock()
	t.schema.series.executingSeats.Sub(float64(t.Seats))
}

// Close ends the ticket and, of a watch, forgets that it watches.
func (t *Ticket) Close() {
	t.End()
	if t.forget != nil {
		t.forget()
		t.forget = nil
	}
}

func requestKind(verb string) string {
	switch verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return "mutating"
	}
	return "readOnly"
}
