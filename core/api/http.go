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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"binnacle.io/core/auth"
	"binnacle.io/core/telemetry"
)

// call is one HTTP request on its way through the pipeline.
type call struct {
	w     *answer
	r     *http.Request
	route route
	start time.Time

	user         *auth.User // after impersonation
	impersonator *auth.User
	attrs        auth.Attributes
	dryRun       bool
	metricVerb   string
	auditID      types.UID
	auditExtra   map[string]string
}

// answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	code     int
	size     int64
	hijacked bool
}

func (a *answer) WriteHeader(code int) {
	if a.code == 0 && code >= 200 {
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.code == 0 {
		a.code = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.size += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack hands the connection to the reverse proxy, which answers 101 on it.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.hijacked, a.code = true, http.StatusSwitchingProtocols
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
	c.auditID = types.UID(r.Header.Get("Audit-ID"))
	if c.auditID == "" || len(c.auditID) > 64 {
		c.auditID = uuid.NewUUID()
	}
	w.Header().Set("Audit-Id", string(c.auditID))
	w.Header().Set("Cache-Control", "no-cache, private")

	ctx, span := s.startSpan(telemetry.FromRequest(r.Context(), r.Header), c)
	c.r = r.WithContext(ctx)
	defer s.finish(c, span)
	defer s.recoverPanic(c, span)
	if err := s.admitCall(c); err != nil {
		s.fail(c, err)
		return
	}
	s.limited(c)
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
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", c.r.Method), attribute.String("url.path", c.route.path),
		attribute.String("user_agent.original", c.r.UserAgent()),
	}
	if c.route.isResource {
		attrs = append(attrs, resourceAttributes(c.route.verb, c.route.group, c.route.version, c.route.resource, c.route.sub, c.route.namespace, c.route.name)...)
	}
	return s.tel.Tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...))
}

func resourceAttributes(verb, group, version, resource, sub, namespace, name string) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("k8s.verb", verb), attribute.String("k8s.api.group", group), attribute.String("k8s.api.version", version),
		attribute.String("k8s.resource", resource),
	}
	for k, v := range map[string]string{"k8s.subresource": sub, "k8s.namespace.name": namespace, "k8s.object.name": name} {
		if v != "" {
			attrs = append(attrs, attribute.String(k, v))
		}
	}
	return attrs
}

// admitCall finds out who asks and whether they may.
func (s *Server) admitCall(c *call) error {
	u, ok, err := s.authn.Authenticate(c.r)
	if err != nil || !ok {
		s.metrics.authn.WithLabelValues("failure").Inc()
		if err != nil {
			s.tel.Log.Debug("request not authenticated", "path", c.route.path, "error", err)
		}
		return apierrors.NewUnauthorized("Unauthorized")
	}
	s.metrics.authn.WithLabelValues("success").Inc()
	c.user = u
	asked, checks, err := auth.Impersonation(c.r.Header, u)
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	if asked != nil {
		for _, a := range checks {
			if err := s.authorize(ctx, a); err != nil {
				return err
			}
		}
		c.impersonator, c.user = u, asked
		auth.StripImpersonation(c.r.Header)
	}
	c.r = c.r.WithContext(auth.WithUser(ctx, c.user))
	c.attrs = c.authAttributes()
	return nil
}

func (c *call) authAttributes() auth.Attributes {
	rt := &c.route
	if !rt.isResource {
		return auth.Attributes{User: c.user, Verb: rt.verb, Path: rt.path}
	}
	return auth.Attributes{
		User: c.user, Verb: rt.verb, Group: rt.group, Version: rt.version, Resource: rt.resource, Subresource: rt.sub,
		Namespace: rt.namespace, Name: rt.authorizedName(c.r.URL.Query()),
	}
}

func (s *Server) authorize(ctx context.Context, a auth.Attributes) error {
	d, reason, err := s.authz.Authorize(ctx, a)
	if d == auth.Allow {
		return nil
	}
	if err != nil {
		s.tel.Log.Debug("authorizer failed", "user", a.User.Name, "error", err)
	}
	return auth.Forbidden(a, reason)
}

// limited applies the in-flight limit and the time limit, then authorizes and
// answers.
func (s *Server) limited(c *call) {
	if c.route.longRunning() {
		s.answerLong(c)
		return
	}
	tokens, kind := s.reads, "readOnly"
	if c.route.isResource && c.route.mutating() {
		tokens, kind = s.writes, "mutating"
	}
	// The administrators must be able to look even when it is full.
	if !c.user.InGroup(auth.GroupMasters) {
		select {
		case tokens <- struct{}{}:
			defer func() { <-tokens }()
		default:
			s.metrics.rejected.WithLabelValues(kind).Inc()
			s.fail(c, apierrors.NewTooManyRequests("Too many requests, please try again later.", 1))
			return
		}
	}
	s.metrics.inflight.WithLabelValues(kind).Inc()
	defer s.metrics.inflight.WithLabelValues(kind).Dec()

	timeout := s.cfg.RequestTimeout
	if t := c.r.URL.Query().Get("timeout"); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil {
			s.fail(c, badRequest("invalid timeout specified in the request URL"))
			return
		}
		if d > 0 && d < timeout {
			timeout = d
		}
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), timeout)
	defer cancel()
	c.r = c.r.WithContext(ctx)
	s.authorized(c)
}

func (s *Server) answerLong(c *call) {
	g := s.metrics.long.WithLabelValues(s.observation(c).labels()...)
	g.Inc()
	defer g.Dec()
	s.authorized(c)
}

func (s *Server) authorized(c *call) {
	if err := s.authorize(c.r.Context(), c.attrs); err != nil {
		s.fail(c, err)
		return
	}
	if h := s.cfg.Served[c.route.group]; h != nil && c.route.isResource {
		h.ServeHTTP(c.w, c.r)
		return
	}
	var err error
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
	o := &observation{verb: c.metricVerb, code: c.w.code, size: c.w.size, took: time.Since(c.start), dryRun: c.dryRun, long: rt.longRunning()}
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
	if c.w.code == 0 && !c.w.hijacked {
		c.w.code = http.StatusOK
	}
	o := s.observation(c)
	s.metrics.observe(o)
	s.audit.write(s.auditEvent(c), c.start)
	span.SetAttributes(attribute.Int("http.response.status_code", o.code))
	if c.user != nil {
		span.SetAttributes(attribute.String("user.name", c.user.Name))
	}
	if o.code >= 500 {
		span.SetStatus(codes.Error, http.StatusText(o.code))
	}
	span.End()
}

func (s *Server) auditEvent(c *call) *auditEvent {
	ev := &auditEvent{
		AuditID: c.auditID, RequestURI: c.r.URL.RequestURI(), Verb: c.route.verb, UserAgent: c.r.UserAgent(),
		User: userInfo(c.user), Annotations: c.auditExtra,
	}
	if c.impersonator != nil {
		ev.User = userInfo(c.impersonator)
		as := userInfo(c.user)
		ev.ImpersonatedUser = &as
	}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		ev.SourceIPs = []string{host}
	}
	if rt := &c.route; rt.isResource {
		ev.ObjectRef = &auditRef{Resource: rt.resource, Namespace: rt.namespace, Name: rt.name, APIGroup: rt.group, APIVersion: rt.version, Subresource: rt.sub}
	}
	ev.ResponseStatus = &metav1.Status{Code: int32(c.w.code)}
	return ev
}

func (s *Server) recoverPanic(c *call, span trace.Span) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
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
