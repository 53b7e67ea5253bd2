package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/audit"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// maxAuditedAnswer bounds the bodies of answers that are kept for the audit
// log. Larger ones are left out, and an annotation says so.
const maxAuditedAnswer = 32 << 20

// capture keeps a copy of a body, up to a bound.
type capture struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (k *capture) Write(p []byte) (int, error) {
	if k.over = k.over || k.buf.Len()+len(p) > k.max; !k.over {
		k.buf.Write(p)
	}
	return len(p), nil
}

// teeBody copies what is read of a request's body.
type teeBody struct {
	io.Reader
	io.Closer
}

// startAudit asks the policy about a request and records that it has come. The
// user is the authenticated one, nil if there is none.
func (s *Server) startAudit(c *call) error {
	r := &c.audit
	r.ID, r.Received, r.Attributes = c.auditID, c.start, c.attrs
	s.audit.Start(r)
	if !r.Writes() {
		return r.Write(audit.RequestReceived)
	}
	r.RequestURI, r.UserAgent, r.SourceIPs = c.r.URL.RequestURI(), c.r.UserAgent(), sourceIPs(c.r)
	if c.route.longRunning() || c.user == nil {
		c.w.began = c.auditBegun
	}
	if err := r.Write(audit.RequestReceived); err != nil {
		return apierrors.NewInternalError(err)
	}
	if !c.route.isResource || c.route.longRunning() {
		return nil
	}
	if r.WantsRequest() && c.route.mutating() {
		c.sent = &capture{max: int(s.cfg.MaxRequestBytes)}
		c.r.Body = teeBody{io.TeeReader(c.r.Body, c.sent), c.r.Body}
	}
	if r.WantsResponse() {
		c.w.copy = &capture{max: maxAuditedAnswer}
	}
	return nil
}

// auditBegun records that an answer begins, where that is a stage.
func (c *call) auditBegun(code int) {
	r := &c.audit
	if r.Status == nil {
		r.Status = &metav1.Status{}
	}
	r.Status.Code = int32(code)
	// Only RequestReceived can refuse a request.
	_ = r.Write(audit.ResponseStarted)
}

// auditUnauthenticated records a request by nobody: upstream tells of those
// when the answer begins and at no other stage.
func (s *Server) auditUnauthenticated(c *call) {
	c.attrs = c.authAttributes()
	r := &c.audit
	r.ID, r.Received, r.Attributes = c.auditID, c.start, c.attrs
	s.audit.Start(r)
	r.RequestURI, r.UserAgent, r.SourceIPs = c.r.URL.RequestURI(), c.r.UserAgent(), sourceIPs(c.r)
	r.Status = &metav1.Status{Message: attempted(c.r)}
	c.w.began = c.auditBegun
}

func attempted(r *http.Request) string {
	var by []string
	if _, _, ok := r.BasicAuth(); ok {
		by = append(by, "basic")
	}
	if scheme, _, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); ok && strings.EqualFold(scheme, "bearer") {
		by = append(by, "bearer")
	}
	if strings.TrimSpace(r.URL.Query().Get("access_token")) != "" {
		by = append(by, "access_token")
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		by = append(by, "x509")
	}
	if len(by) == 0 {
		return "Authentication failed, no credentials provided"
	}
	return "Authentication failed, attempted: " + strings.Join(by, ", ")
}

// finishAudit records how a request ended.
func (s *Server) finishAudit(c *call) {
	r := &c.audit
	if !r.Enabled() || c.user == nil {
		return
	}
	stage := audit.ResponseComplete
	switch {
	case c.panicked != "":
		stage = audit.Panic
		r.Status = &metav1.Status{Code: http.StatusInternalServerError, Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: "APIServer panic'd: " + c.panicked}
	case r.Status == nil && c.w.code == 0:
		r.Status = &metav1.Status{Code: http.StatusOK, Status: metav1.StatusSuccess, Message: "Connection closed early"}
		if c.w.began != nil {
			c.w.begin(http.StatusOK)
		}
	case r.Status == nil:
		r.Status = &metav1.Status{}
		fallthrough
	default:
		r.Status.Code = int32(c.w.code)
	}
	if r.Writes() {
		if r.Attributes.Name == "" {
			r.Attributes.Name = c.route.name // as generated
		}
		s.auditBodies(c)
		c.auditLatency()
	}
	_ = r.Write(stage)
}

func (s *Server) auditBodies(c *call) {
	r := &c.audit
	if c.sent != nil && !c.sent.over {
		r.RequestObject = s.auditedJSON(c.sent.buf.Bytes(), c.r.Header, r.OmitsManagedFields())
	}
	if k := c.w.copy; k != nil {
		if k.over {
			r.Annotate("audit.binnacle.io/response-object", "left out: larger than 32 MiB")
			return
		}
		r.ResponseObject = s.auditedJSON(k.buf.Bytes(), c.w.Header(), r.OmitsManagedFields())
	}
}

// auditedJSON makes JSON of a body in whatever encoding it travelled.
func (s *Server) auditedJSON(body []byte, h http.Header, omitManaged bool) []byte {
	if h.Get("Content-Encoding") == "gzip" {
		gz, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil
		}
		if body, err = io.ReadAll(io.LimitReader(gz, maxAuditedAnswer)); err != nil {
			return nil
		}
	}
	if len(body) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		media = mediaJSON
	}
	switch {
	case media == mediaProtobuf:
		o, _, err := s.codecs.decoder(mediaProtobuf, validateIgnore).Decode(body, nil, nil)
		if err != nil {
			return nil
		}
		if body, err = json.Marshal(o); err != nil {
			return nil
		}
	case media == mediaYAML || strings.HasSuffix(media, "+yaml"):
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil
		}
	}
	return audit.CleanJSON(body, omitManaged)
}

// noteObject keeps which object the client had in mind.
func (c *call) noteObject(o any) {
	if m, ok := o.(client.Object); ok && c.audit.Enabled() {
		c.audit.UID, c.audit.ResourceVersion = string(m.GetUID()), m.GetResourceVersion()
		if c.audit.Attributes.Name == "" {
			c.audit.Attributes.Name = m.GetName()
		}
	}
}

// sourceIPs are those that proxies claim, then the one that is certain.
func sourceIPs(r *http.Request) []string {
	if r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("X-Real-Ip") == "" {
		if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
			return []string{host}
		}
	}
	var out []string
	for _, ip := range utilnet.SourceIPs(r) {
		out = append(out, ip.String())
	}
	return out
}

// inProcess begins the record of a request that comes without HTTP.
func (s *Server) inProcess(user *auth.User, q *request) *audit.Record {
	r := &audit.Record{Received: q.start, Attributes: q.attributes()}
	r.Attributes.User = user
	s.audit.Start(r)
	if r.Writes() {
		r.ID, r.UserAgent = uuid.NewUUID(), "binnacle (in process)"
	}
	return r
}

// inProcessDone records how it ended.
func (s *Server) inProcessDone(r *audit.Record, q *request, err error) {
	if r.Writes() {
		r.Attributes.Name = q.key.Name // as generated
		r.Status = &metav1.Status{Code: http.StatusOK}
		if err != nil {
			st := statusOf(err)
			r.Status = &st
		}
	}
	_ = r.Write(audit.ResponseComplete)
}

// slowRequest is from when on a request is worth a line in the log, as
// upstream's traces.
const slowRequest = 500 * time.Millisecond

// auditLatency annotates slow requests with where their time went, under
// upstream's names.
func (c *call) auditLatency() {
	total := time.Since(c.start)
	if total <= slowRequest || c.route.longRunning() {
		return
	}
	note := func(what string, d time.Duration) {
		if d > 0 {
			c.audit.Annotate("apiserver.latency.k8s.io/"+what, d.String())
		}
	}
	note("total", total)
	note("authentication", c.took.authentication)
	note("authorization", c.took.authorization)
	note("apf-queue-wait", c.waited())
	note("etcd", c.took.parts.Of(telemetry.InStorage))
	note("response-write", c.w.wrote)
}

// userInfo is a user as reviews show it.
func userInfo(u *auth.User) authenticationv1.UserInfo {
	if u == nil {
		return authenticationv1.UserInfo{}
	}
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}
