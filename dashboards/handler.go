package dashboards

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/tracing"
)

// heartbeat is how often an idle stream says that it is alive, and writeTimeout
// how long a viewer may take to accept an update.
const (
	heartbeat    = 10 * time.Second
	writeTimeout = 10 * time.Second
)

// ui is the handler's state.
type ui struct {
	deps    Deps
	metrics *metrics
	feed    *feed
	permits chan struct{} // one per open stream
}

// Handler serves the page at / and its data under /ui/api/. Streams end with
// their request's context and would hold http.Server.Shutdown up: call Close, or
// give the server a BaseContext that ends.
func Handler(deps Deps) http.Handler {
	deps = deps.withDefaults()
	m := newMetrics(deps.Telemetry.Registry)
	u := &ui{deps: deps, metrics: m, feed: &feed{deps: deps, metrics: m}, permits: make(chan struct{}, deps.MaxStreams)}
	mux := http.NewServeMux()
	handle := func(pattern, name string, h http.HandlerFunc) { mux.Handle(pattern, m.count(name, h)) }
	handle("GET /ui/api/stream", "stream", u.stream)
	handle("GET /ui/api/state", "state", u.state)
	handle("GET /ui/api/history", "history", u.history)
	handle("GET /ui/api/pods/{namespace}/{name}", "pod", u.pod)
	handle("GET /ui/api/traces/{id}", "trace", u.trace)
	handle("/ui/api/", "unknown", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("no %s %s in this API", r.Method, r.URL.Path))
	})
	handle("/", "page", newAssets(embedded()).ServeHTTP)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		mux.ServeHTTP(w, r)
	})
}

// secure forbids the page everything it does not need.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "manifest-src 'self'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
	}, "; "))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// stream sends sections as they change. The event's name is the section's, its
// data the section. The first round has all of them and ends with "ready".
func (u *ui) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case u.permits <- struct{}{}:
		defer func() { <-u.permits }()
	default:
		u.metrics.refused.Inc()
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("%d pages are open already", cap(u.permits)))
		return
	}
	u.metrics.streams.Inc()
	defer u.metrics.streams.Dec()
	run, release := u.feed.acquire()
	defer release()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not collect
	ctx, out := r.Context(), http.NewResponseController(w)
	send := func(text []byte) error {
		if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		return out.Flush()
	}
	if send([]byte("retry: 1000\n\n")) != nil {
		return // the viewer went away, here and below
	}
	sent := map[string]uint64{}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for first := true; ; first = false {
		now, err := run.snapshot(ctx)
		if err != nil {
			return
		}
		text := frame(now, sent)
		if first {
			text = append(text, "event: ready\ndata: {}\n\n"...)
		}
		if len(text) > 0 && send(text) != nil {
			return
		}
		for waiting := true; waiting; {
			select {
			case <-now.superseded:
				waiting = false
			case <-beat.C:
				if send([]byte(": alive\n\n")) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// frame renders the sections that are newer than what was sent and notes them
// as sent. JSON from encoding/json has no line breaks.
func frame(s *snapshot, sent map[string]uint64) []byte {
	var text []byte
	for _, name := range sectionNames {
		part, ok := s.sections[name]
		if !ok || sent[name] == part.version {
			continue
		}
		sent[name] = part.version
		text = append(text, "event: "...)
		text = append(text, name...)
		text = append(text, "\ndata: "...)
		text = append(text, part.json...)
		text = append(text, "\n\n"...)
	}
	return text
}

// state answers all sections once.
func (u *ui) state(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := bounded(r.Context())
	defer cancel()
	run, release := u.feed.acquire()
	defer release()
	now, err := run.snapshot(ctx)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	body := map[string]json.RawMessage{}
	for name, s := range now.sections {
		body[name] = s.json
	}
	answer(w, http.StatusOK, body)
}

func (u *ui) history(w http.ResponseWriter, r *http.Request) {
	if u.deps.Metrics == nil {
		fail(w, http.StatusNotFound, errors.New("the metrics database is not running"))
		return
	}
	ctx, cancel := bounded(r.Context())
	defer cancel()
	view, err := u.feed.shared.get(ctx, u.deps.Metrics, time.Now())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, http.StatusOK, view)
}

func (u *ui) pod(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := bounded(r.Context())
	defer cancel()
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	p, err := client.GetCached[*corev1.Pod](ctx, u.deps.Client, namespace, name)
	if err != nil {
		code := http.StatusServiceUnavailable
		if apierrors.IsNotFound(err) {
			code = http.StatusNotFound
		}
		fail(w, code, err)
		return
	}
	events, _, err := client.ListOf[*corev1.Event](ctx, u.deps.Client, client.ReadOptions{Namespace: namespace, FromCache: true})
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, http.StatusOK, viewPodDetail(p, events))
}

func (u *ui) trace(w http.ResponseWriter, r *http.Request) {
	if u.deps.Traces == nil {
		fail(w, http.StatusNotFound, errors.New("tracing is not running"))
		return
	}
	id, err := tracing.ParseTraceID(r.PathValue("id"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	spans, err := u.deps.Traces.Trace(id)
	switch {
	case err != nil:
		fail(w, http.StatusInternalServerError, err)
	case len(spans) == 0:
		fail(w, http.StatusNotFound, fmt.Errorf("no spans of trace %s are kept", id))
	default:
		answer(w, http.StatusOK, viewTrace(id, spans))
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		fail(w, http.StatusInternalServerError, fmt.Errorf("cannot encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(text) // the viewer went away
}

func fail(w http.ResponseWriter, code int, err error) {
	answer(w, code, map[string]string{"error": err.Error()})
}

// metrics say what looking costs.
type metrics struct {
	streams  prometheus.Gauge
	refused  prometheus.Counter
	requests *prometheus.CounterVec
	build    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "binnacle_ui_streams", Help: "Pages that are open.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_ui_streams_refused_total", Help: "Pages refused because too many were open.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_ui_requests_total", Help: "Requests to the web page and its API.",
		}, []string{"handler", "code"}),
		build: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "binnacle_ui_snapshot_duration_seconds", Help: "Time to gather the state that pages show.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2},
		}),
	}
	reg.MustRegister(m.streams, m.refused, m.requests, m.build)
	return m
}

func (m *metrics) count(name string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() { m.requests.WithLabelValues(name, strconv.Itoa(s.code)).Inc() }()
		h(s, r)
	})
}

// statusWriter notes the status code.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
