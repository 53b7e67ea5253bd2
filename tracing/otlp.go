package tracing

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // senders may compress
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var errBusy = errors.New("too many OTLP requests at once, try again")

// acquire takes a permit without waiting.
func (t *Tracing) acquire() (release func(), ok bool) {
	select {
	case t.permits <- struct{}{}:
		return func() { <-t.permits }, true
	default:
		return nil, false
	}
}

// export stores what one OTLP request carries.
func (t *Tracing) export(req ptraceotlp.ExportRequest, source string) ptraceotlp.ExportResponse {
	resp := ptraceotlp.NewExportResponse()
	if refused := t.accept(fromOTLP(req.Traces()), source); refused > 0 {
		resp.PartialSuccess().SetRejectedSpans(int64(refused))
		resp.PartialSuccess().SetErrorMessage("spans without trace ID or span ID")
	}
	return resp
}

type grpcReceiver struct {
	ptraceotlp.UnimplementedGRPCServer
	t *Tracing
}

func (g *grpcReceiver) Export(_ context.Context, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	release, ok := g.t.acquire()
	if !ok {
		g.t.metrics.requests.WithLabelValues("grpc", codes.Unavailable.String()).Inc()
		return ptraceotlp.NewExportResponse(), status.Error(codes.Unavailable, errBusy.Error())
	}
	defer release()
	g.t.metrics.requests.WithLabelValues("grpc", codes.OK.String()).Inc()
	return g.t.export(req, sourceGRPC), nil
}

func (t *Tracing) serveGRPC(ctx context.Context) error {
	srv := grpc.NewServer(
		grpc.MaxRecvMsgSize(int(t.cfg.MaxRequestBytes)),
		grpc.MaxConcurrentStreams(uint32(t.cfg.MaxRequests)),
		grpc.ConnectionTimeout(10*time.Second),
	)
	ptraceotlp.RegisterGRPCServer(srv, &grpcReceiver{t: t})
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	defer srv.Stop()
	if err := srv.Serve(t.grpcListener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot serve OTLP on %s: %w", t.grpcListener.Addr(), err)
	}
	return nil
}

func (t *Tracing) serveHTTP(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/traces", t.receiveHTTP)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := srv.Shutdown(grace); err != nil {
			err = srv.Close()
			done <- err
			return
		}
		done <- nil
	}()
	err := srv.Serve(t.httpListener)
	if ctx.Err() == nil {
		return fmt.Errorf("cannot serve OTLP on %s: %w", t.httpListener.Addr(), err)
	}
	return <-done
}

const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
)

// receiveHTTP is OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
func (t *Tracing) receiveHTTP(w http.ResponseWriter, r *http.Request) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	fail := func(code int, grpcCode codes.Code, format string, args ...any) {
		t.metrics.requests.WithLabelValues("http", grpcCode.String()).Inc()
		writeStatus(w, media, code, grpcCode, fmt.Sprintf(format, args...))
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(http.StatusMethodNotAllowed, codes.Unimplemented, "cannot %s here: OTLP is sent with POST", r.Method)
		return
	}
	if media != typeProtobuf && media != typeJSON {
		fail(http.StatusUnsupportedMediaType, codes.InvalidArgument, "cannot read content type %q: send %s or %s",
			r.Header.Get("Content-Type"), typeProtobuf, typeJSON)
		return
	}
	release, ok := t.acquire()
	if !ok {
		w.Header().Set("Retry-After", "1")
		fail(http.StatusServiceUnavailable, codes.Unavailable, "%v", errBusy)
		return
	}
	defer release()
	body, err := readBody(w, r, t.cfg.MaxRequestBytes)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		fail(http.StatusRequestEntityTooLarge, codes.ResourceExhausted, "request is larger than %d bytes", t.cfg.MaxRequestBytes)
		return
	case errors.Is(err, errEncoding):
		fail(http.StatusUnsupportedMediaType, codes.InvalidArgument, "%v", err)
		return
	case err != nil:
		fail(http.StatusBadRequest, codes.InvalidArgument, "cannot read body: %v", err)
		return
	}
	req, err := decodeOTLP(media, body)
	if err != nil {
		fail(http.StatusBadRequest, codes.InvalidArgument, "cannot decode spans: %v", err)
		return
	}
	resp := t.export(req, sourceHTTP)
	var out []byte
	if media == typeJSON {
		out, err = resp.MarshalJSON()
	} else {
		out, err = resp.MarshalProto()
	}
	if err != nil {
		fail(http.StatusInternalServerError, codes.Internal, "cannot encode response: %v", err)
		return
	}
	t.metrics.requests.WithLabelValues("http", codes.OK.String()).Inc()
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(out) // the sender is gone; it will send again
}

func decodeOTLP(media string, body []byte) (req ptraceotlp.ExportRequest, err error) {
	req = ptraceotlp.NewExportRequest()
	if media == typeJSON {
		return req, req.UnmarshalJSON(body)
	}
	return req, req.UnmarshalProto(body)
}

var errEncoding = errors.New("unknown Content-Encoding: send gzip or identity")

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body := http.MaxBytesReader(w, r.Body, limit)
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
		return io.ReadAll(body)
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(z, limit+1))
		if err == nil && int64(len(b)) > limit {
			err = &http.MaxBytesError{Limit: limit}
		}
		return b, err
	}
	return nil, errEncoding
}

// writeStatus answers with a google.rpc.Status in the request's encoding.
func writeStatus(w http.ResponseWriter, media string, code int, grpcCode codes.Code, msg string) {
	st := &spb.Status{Code: int32(grpcCode), Message: msg}
	var b []byte
	var err error
	if media == typeProtobuf {
		b, err = proto.Marshal(st)
	} else {
		media = typeJSON
		b, err = protojson.Marshal(st)
	}
	if err != nil {
		http.Error(w, msg, code)
		return
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(code)
	_, _ = w.Write(b)
}

func fromOTLP(td ptrace.Traces) []*Span {
	out := make([]*Span, 0, td.SpanCount())
	for _, rs := range td.ResourceSpans().All() {
		res := &Resource{}
		for k, v := range rs.Resource().Attributes().All() {
			if k == serviceName {
				res.Service = v.AsString()
			} else {
				res.Attrs = append(res.Attrs, Attr{k, valueFromOTLP(v, 0)})
			}
		}
		res.name()
		for _, ss := range rs.ScopeSpans().All() {
			scope := Scope{Name: ss.Scope().Name(), Version: ss.Scope().Version()}
			for _, s := range ss.Spans().All() {
				out = append(out, spanFromOTLP(s, res, scope))
			}
		}
	}
	return out
}

func spanFromOTLP(s ptrace.Span, res *Resource, scope Scope) *Span {
	start, end := int64(s.StartTimestamp()), int64(s.EndTimestamp())
	out := &Span{
		Trace: TraceID(s.TraceID()), ID: SpanID(s.SpanID()), Parent: SpanID(s.ParentSpanID()),
		TraceState: s.TraceState().AsRaw(), Name: s.Name(),
		Start: start, Duration: max(0, end-start),
		StatusMessage: s.Status().Message(), Attrs: attrsFromOTLP(s.Attributes(), 0),
		Resource: res, Scope: scope,
	}
	if k := s.Kind(); k >= 0 && k <= ptrace.SpanKindConsumer {
		out.Kind = Kind(k)
	}
	if c := s.Status().Code(); c >= 0 && c <= ptrace.StatusCodeError {
		out.Status = Status(c)
	}
	for _, e := range s.Events().All() {
		out.Events = append(out.Events, Event{Time: int64(e.Timestamp()), Name: e.Name(), Attrs: attrsFromOTLP(e.Attributes(), 0)})
	}
	for _, l := range s.Links().All() {
		out.Links = append(out.Links, Link{Trace: TraceID(l.TraceID()), Span: SpanID(l.SpanID()), Attrs: attrsFromOTLP(l.Attributes(), 0)})
	}
	return out
}

func attrsFromOTLP(m pcommon.Map, depth int) []Attr {
	if m.Len() == 0 {
		return nil
	}
	out := make([]Attr, 0, m.Len())
	for k, v := range m.All() {
		out = append(out, Attr{k, valueFromOTLP(v, depth)})
	}
	return out
}

func valueFromOTLP(v pcommon.Value, depth int) Value {
	if depth > maxDepth {
		return Value{}
	}
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return Value{Type: TypeString, Str: v.Str()}
	case pcommon.ValueTypeBool:
		if v.Bool() {
			return Value{Type: TypeBool, Int: 1}
		}
		return Value{Type: TypeBool}
	case pcommon.ValueTypeInt:
		return Value{Type: TypeInt, Int: v.Int()}
	case pcommon.ValueTypeDouble:
		return Value{Type: TypeFloat, Float: v.Double()}
	case pcommon.ValueTypeBytes:
		return Value{Type: TypeBytes, Str: string(v.Bytes().AsRaw())}
	case pcommon.ValueTypeSlice:
		out := Value{Type: TypeList}
		for _, e := range v.Slice().All() {
			out.List = append(out.List, valueFromOTLP(e, depth+1))
		}
		return out
	case pcommon.ValueTypeMap:
		return Value{Type: TypeMap, Map: attrsFromOTLP(v.Map(), depth+1)}
	}
	return Value{}
}
