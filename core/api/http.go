package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/flowcontrol"
	"binnacle.io/core/telemetry"
)

// call is one HTTP request on its way through the pipeline.
type call struct {
	w     *answer
	r     *http.Request
	route route
	start time.Time
	// limit is how long the request may take, 0 as long as it likes.
	limit time.Duration

	user         *auth.User // after impersonation
	impersonator *auth.User
	attrs        auth.Attributes
	dryRun       bool
	metricVerb   string
	auditID      types.UID
	audit        audit.Record
	sent         *capture // the body, where it is recorded
	panicked     string
	ticket       *flowcontrol.Ticket
	took         timing
}

// answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	code     int
	size     int64
	hijacked bool
	// timed answers say how long writing took: those that are not streams.
	timed bool
	wrote time.Duration
	// began is told the code when the answer begins; nil if nobody asks.
	began func(code int)
	// copy keeps the body; nil if nobody asks.
	copy *capture
}

func (a *answer) begin(code int) {
	a.code = code
	if a.began != nil {
		a.began(code)
		a.began = nil
	}
}

func (a *answer) WriteHeader(code int) {
	if a.code == 0 && code >= 200 {
		a.begin(code)
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.code == 0 {
		a.begin(http.StatusOK)
	}
	if a.copy != nil {
		_, _ = a.copy.Write(b) // never fails
	}
	var start time.Time
	if a.timed {
		start = time.Now()
	}
	n, err := a.ResponseWriter.Write(b)
	if a.timed {
		a.wrote += time.Since(start)
	}
	a.size += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack hands the connection to the reverse proxy, which answers 101 on it.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.hijacked = true
		a.begin(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Flush implements http.Flusher for the reverse proxy.
func (a *answer) Flush() {
	// A connection that cannot flush buffers nothing we could help with.
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{
		w: &answer{ResponseWriter: w}, r: r, start: time.Now(),
		route: parseRoute(r.Method, r.URL.Path, r.URL.Query()),
	}
	c.metricVerb = metricVerb(c.route.verb, c.route.sub)
	c.w.timed = !c.route.longRunning()
	c.auditID = types.UID(r.Header.Get("Audit-ID"))
	if c.auditID == "" || len(c.auditID) > 64 {
		c.auditID = uuid.NewUUID()
	}
	w.Header().Set("Audit-Id", string(c.auditID))
	w.Header().Set("Cache-Control", "no-cache, private")

	badLimit := s.setLimit(c)
	ctx := r.Context()
	if c.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.start.Add(c.limit))
		defer cancel()
	}
	ctx, span := s.startSpan(telemetry.FromRequest(ctx, r.Header), c)
	c.r = r.WithContext(ctx)
	defer s.finish(c, span)
	defer s.recoverPanic(c, span)
	c.limitBody(s.cfg.RequestTimeout)
	if err := s.admitCall(c); err != nil {
		s.fail(c, err)
		return
	}
	if badLimit != nil {
		s.fail(c, badLimit)
		return
	}
	s.limited(c)
}

// setLimit sets how long the request may take, finding out who asks included.
func (s *Server) setLimit(c *call) error {
	if c.route.longRunning() {
		return nil
	}
	c.limit = s.cfg.RequestTimeout
	t := c.query("timeout")
	if t == "" {
		return nil
	}
	d, err := time.ParseDuration(t)
	if err != nil {
		return badRequest("invalid timeout specified in the request URL - %v", err)
	}
	if d > 0 {
		c.limit = min(c.limit, d)
	}
	return nil
}

// limitBody bounds how long the body may take to come. Bodies that nobody reads
// are bounded too, because net/http waits for them before it lets the connection
// go. Zero lifts the bound.
func (c *call) limitBody(most time.Duration) {
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return
	}
	var end time.Time
	switch {
	case c.limit > 0:
		end = c.start.Add(c.limit)
	case most > 0:
		end = c.start.Add(most)
	}
	// What cannot be given a deadline has no slow client behind it.
	_ = http.NewResponseController(c.w).SetReadDeadline(end)
}

func (s *Server) startSpan(ctx context.Context, c *call) (context.Context, trace.Span) {
	name := c.r.Method + " " + c.route.path
	if c.route.isResource {
		name = c.r.Method + " " + c.route.template()
	} else if !slices.Contains([]string{"/healthz", "/livez", "/readyz", "/metrics", "/version", "/api", "/apis"}, c.route.path) {
		first, _, _ := strings.Cut(strings.TrimPrefix(c.route.path, "/"), "/")
		switch first {
		case "api", "apis", "openapi", "openid", ".well-known", "livez", "readyz", "healthz", "debug":
			name = c.r.Method + " /" + first + "/{path}"
		default:
			name = c.r.Method + " /{path}"
		}
	}
	return s.tel.Tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
}

// describe says in the span what was asked, by whom, and what was answered. All
// of it is set at the end, at once: attributes that come one after another are
// copied each time.
func (c *call) describe(span trace.Span, code int) {
	if !span.IsRecording() {
		return
	}
	user := ""
	if c.user != nil {
		user = c.user.Name
	}
	attrs := make([]attribute.KeyValue, 0, 12)
	attrs = append(attrs, attribute.String("http.request.method", c.r.Method), attribute.String("url.path", c.route.path),
		attribute.String("user_agent.original", c.r.UserAgent()), attribute.Int("http.response.status_code", code), attribute.String("user.name", user))
	if c.route.isResource {
		attrs = resourceAttributes(attrs, c.route.verb, c.route.group, c.route.version, c.route.resource, c.route.sub, c.route.namespace, c.route.name)
	}
	span.SetAttributes(attrs...)
}

// resourceAttributes appends what a span says of a resource.
func resourceAttributes(attrs []attribute.KeyValue, verb, group, version, resource, sub, namespace, name string) []attribute.KeyValue {
	attrs = append(attrs, attribute.String("k8s.verb", verb), attribute.String("k8s.api.group", group), attribute.String("k8s.api.version", version),
		attribute.String("k8s.resource", resource))
	for _, a := range [...]struct{ key, value string }{{"k8s.subresource", sub}, {"k8s.namespace.name", namespace}, {"k8s.object.name", name}} {
		if a.value != "" {
			attrs = append(attrs, attribute.String(a.key, a.value))
		}
	}
	return attrs
}

// admitCall finds out who asks and whether they may.
func (s *Server) admitCall(c *call) error {
	start := time.Now()
	u, ok, err := s.authn.Authenticate(c.r)
	s.took(c, "authentication", start, &c.took.authentication, s.metrics.filters.authentication)
	if err != nil || !ok {
		s.auditUnauthenticated(c)
		s.metrics.authn.WithLabelValues("failure").Inc()
		if err != nil {
			s.tel.Log.Debug("request not authenticated", "path", c.route.path, "error", err)
		}
		return apierrors.NewUnauthorized("Unauthorized")
	}
	s.metrics.authn.WithLabelValues("success").Inc()
	c.user = u
	if t := c.r.TLS; t != nil && len(t.PeerCertificates) > 0 && c.r.Header.Get("Authorization") == "" {
		s.metrics.certificates.Observe(t.PeerCertificates[0].NotAfter.Sub(start).Seconds())
	}
	c.attrs = c.authAttributes()
	if err := s.startAudit(c); err != nil {
		return err
	}
	ctx := c.r.Context()
	asked, err := auth.Impersonate(ctx, s.authz, c.r.Header, c.attrs)
	if err != nil {
		return err
	}
	// Even a request that is nobody else's may carry them: behind an empty
	// first value, say.
	auth.StripImpersonation(c.r.Header)
	if asked != nil {
		c.impersonator, c.user, c.attrs.User = u, asked, asked
		c.audit.Impersonated = asked
	}
	ctx = telemetry.WithBreakdown(auth.WithUser(ctx, c.user), &c.took.parts)
	if c.route.mutating() {
		ctx = audit.With(ctx, &c.audit)
	}
	c.r = c.r.WithContext(ctx)
	return nil
}

func (c *call) authAttributes() auth.Attributes {
	rt := &c.route
	if !rt.isResource {
		return auth.Attributes{User: c.user, Verb: rt.verb, Path: rt.path}
	}
	query := c.r.URL.Query()
	a := auth.Attributes{
		User: c.user, Verb: rt.verb, Group: rt.group, Version: rt.version, Resource: rt.resource, Subresource: rt.sub,
		Namespace: rt.namespace, Name: rt.authorizedName(query),
	}
	if rt.verb == "list" || rt.verb == "watch" || rt.verb == "deletecollection" {
		// What cannot be read is refused later, and helps nobody before.
		if s, err := fields.ParseSelector(query.Get("fieldSelector")); err == nil {
			a.Fields = s.Requirements()
		}
		if s, err := labels.Parse(query.Get("labelSelector")); err == nil {
			a.Labels, _ = s.Requirements()
		}
	}
	return a
}

func (s *Server) authorize(ctx context.Context, a auth.Attributes) error {
	d, reason, err := s.authz.Authorize(ctx, a)
	switch {
	case d == auth.Allow:
		return nil
	case err != nil:
		return apierrors.NewInternalError(err)
	}
	return auth.Forbidden(a, reason)
}

// limited waits for the seats that priority and fairness gives the request,
// then authorizes and answers.
func (s *Server) limited(c *call) {
	if c.route.longRunning() {
		if c.route.verb != "watch" {
			s.answerLong(c)
			return
		}
		// A watch holds its seats until its initial state is sent.
		if s.seated(c, s.cfg.RequestTimeout/4) {
			defer c.ticket.Close()
			s.answerLong(c)
		}
		return
	}
	if !s.seated(c, c.limit/4) {
		return
	}
	defer c.ticket.Close()
	inflight := s.metrics.inflight[c.kind()]
	inflight.Inc()
	defer inflight.Dec()
	s.authorized(c)
}

// kind is the request_kind of metrics.
func (c *call) kind() string {
	if c.route.isResource && c.route.mutating() {
		return "mutating"
	}
	return "readOnly"
}

// query is one value of the query string, which most requests do not have.
func (c *call) query(key string) string {
	if c.r.URL.RawQuery == "" {
		return ""
	}
	return c.r.URL.Query().Get(key)
}

// seated waits for a ticket; it answers when there is none.
func (s *Server) seated(c *call, longest time.Duration) bool {
	t, err := s.flow.Begin(c.r.Context(), flowcontrol.Request{Attributes: c.attrs, RawQuery: c.r.URL.RawQuery, MaxWait: longest})
	c.ticket = t
	s.metrics.filters.fairness.Observe(t.Waited.Seconds())
	t.Headers(c.w.Header())
	if t.Waited > 0 {
		// Only who waited has a span for it.
		end := time.Now()
		_, span := s.tel.Tracer.Start(c.r.Context(), "priority and fairness", trace.WithTimestamp(end.Add(-t.Waited)), trace.WithAttributes(t.Attributes()...))
		span.End(trace.WithTimestamp(end))
	}
	if err != nil {
		s.metrics.refused(s.observation(c))
		s.fail(c, err)
	}
	return err == nil
}

// initialized says that a watch has sent its initial state of so many objects.
func (s *Server) initialized(c *call, objects int) {
	if c.ticket != nil {
		c.ticket.End()
	}
	rt := &c.route
	s.metrics.initial.WithLabelValues(rt.group, rt.resource).Add(float64(objects))
	if isTrue(c.r.URL.Query(), "sendInitialEvents") {
		s.metrics.watchLists.WithLabelValues(rt.group, rt.version, rt.resource, scopeOf(rt.namespace, rt.name, rt.verb)).Observe(time.Since(c.start).Seconds())
	}
}

func (s *Server) answerLong(c *call) {
	g := s.metrics.long.WithLabelValues(s.observation(c).labels()...)
	g.Inc()
	defer g.Dec()
	s.authorized(c)
}

func (s *Server) authorized(c *call) {
	start := time.Now()
	d, reason, err := s.authz.Authorize(c.r.Context(), c.attrs)
	s.took(c, "authorization", start, &c.took.authorization, s.metrics.filters.authorization)
	switch {
	case d == auth.Allow:
		c.audit.Decision, c.audit.Reason = "allow", reason
	case err != nil:
		// Not refused for good: the client may try again.
		c.audit.Annotate("authorization.k8s.io/reason", "internal error")
		s.fail(c, apierrors.NewInternalError(err))
		return
	default:
		c.audit.Decision, c.audit.Reason = "forbid", reason
		s.fail(c, auth.Forbidden(c.attrs, reason))
		return
	}
	if c.route.longRunning() {
		c.limitBody(0)
	}
	if h := s.cfg.Served[c.route.group]; h != nil && c.route.isResource {
		h.ServeHTTP(c.w, c.r)
		return
	}
	if c.route.isResource {
		err = s.serveResource(c)
	} else {
		err = s.serveOther(c)
	}
	if err != nil {
		s.fail(c, err)
	}
}

// observation describes the request as far as it is known. What nobody serves
// must not make series of its own.
func (s *Server) observation(c *call) *observation {
	rt := &c.route
	o := &observation{verb: c.metricVerb, code: c.w.code, size: c.w.size, took: time.Since(c.start), dryRun: c.dryRun, long: rt.longRunning(), sent: c.r.ContentLength}
	if rt.isResource {
		o.group, o.version, o.resource, o.sub = rt.group, rt.version, rt.resource, rt.sub
		o.scope = scopeOf(rt.namespace, rt.name, rt.verb)
	} else {
		o.scope, o.verb = "", strings.ToUpper(c.route.verb)
		o.sub = nonResourceLabel(rt.path)
	}
	if o.code == 0 {
		o.code = http.StatusOK
	}
	if rt.isResource {
		k, _, ok := s.kinds.ByResource(schemaResource(rt))
		if !ok {
			o.group, o.version, o.resource, o.sub = "", "", "", ""
		} else if o.sub != "" && findSub(k, o.sub) == nil {
			o.sub = ""
		}
	}
	if !knownVerb(o.verb) {
		o.verb = "OTHER"
	}
	return o
}

func nonResourceLabel(path string) string {
	switch path {
	case "/healthz", "/livez", "/readyz", "/metrics", "/version":
		return path
	}
	return ""
}

// finish observes, audits and ends the span of a request.
func (s *Server) finish(c *call, span trace.Span) {
	s.finishAudit(c)
	if c.w.code == 0 && !c.w.hijacked {
		c.w.code = http.StatusOK
	}
	o := s.observation(c)
	s.metrics.observe(o)
	s.logSlow(c, o)
	c.describe(span, o.code)
	if o.code >= 500 {
		span.SetStatus(codes.Error, http.StatusText(o.code))
	}
	span.End()
}

func (s *Server) recoverPanic(c *call, span trace.Span) {
	p := recover()
	if p == nil {
		return
	}
	c.panicked = fmt.Sprint(p)
	if p == http.ErrAbortHandler {
		o := s.observation(c)
		s.metrics.aborted.WithLabelValues(o.verb, o.group, o.version, o.resource, o.sub, o.scope).Inc()
		panic(p)
	}
	s.metrics.panics.Inc()
	err := fmt.Errorf("panic: %v", p)
	span.RecordError(err)
	s.tel.Log.Error("request panicked", "method", c.r.Method, "path", c.route.path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if c.w.code == 0 && !c.w.hijacked {
		s.fail(c, apierrors.NewInternalError(errors.New("This request caused apiserver to panic. Look in the logs for details.")))
	}
}

// fail answers with a Status, if nothing has been answered yet.
func (s *Server) fail(c *call, err error) {
	if c.w.code != 0 || c.w.hijacked {
		return
	}
	if errors.Is(err, errNoPage) {
		noPage(c)
		return
	}
	st := statusOf(err)
	if st.Code >= 500 && st.Code != http.StatusServiceUnavailable && st.Code != http.StatusGatewayTimeout && c.r.Context().Err() == nil {
		s.tel.Log.Error("request failed", "method", c.r.Method, "path", c.route.path, "error", err)
	}
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
	}
	f, negErr := negotiate(c.r, nil)
	if negErr != nil {
		f = format{media: mediaJSON}
	}
	if c.user != nil {
		c.audit.Status = &st
	}
	body, encErr := s.codecs.encode(&st, f.media, f.pretty)
	if encErr != nil {
		body = fmt.Appendf(nil, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d}`, st.Code)
		f.media = mediaJSON
	}
	h := c.w.Header()
	h.Set("Content-Type", f.media)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(int(st.Code))
	// The client may have gone; there is nobody to tell.
	_, _ = c.w.Write(body)
}
