package audit

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/natefinch/lumberjack.v2"

	"binnacle.io/core/telemetry"
)

// The modes of a log.
const (
	Blocking       = "blocking"
	BlockingStrict = "blocking-strict"
)

// Config is what users write. The zero Config counts events and writes none.
type Config struct {
	// Path is the file, "-" for standard output.
	Path string `json:"path,omitempty"`
	// PolicyFile is a Policy of audit.k8s.io/v1. Default: everything at level
	// Metadata.
	PolicyFile string `json:"policyFile,omitempty"`
	// Mode is blocking (the default) or blocking-strict.
	Mode string `json:"mode,omitempty"`
	// MaxSize is the size in MiB at which the file is put aside, MaxBackups how
	// many of those are kept (0: all) and MaxAge for how many days (0: for
	// ever). Default 100 MiB.
	MaxSize    int  `json:"maxSize,omitempty"`
	MaxBackups int  `json:"maxBackups,omitempty"`
	MaxAge     int  `json:"maxAge,omitempty"`
	Compress   bool `json:"compress,omitempty"`
}

// Log takes events. It is safe for concurrent use.
type Log struct {
	policy  *Policy
	strict  bool
	sink    io.Writer // nil: events are counted only
	closer  io.Closer
	tel     *telemetry.Component
	metrics *metrics
	buffers sync.Pool // *[]byte

	mu sync.Mutex // held while an event is written
}

// Open reads the policy and opens the file. The log is closed by the caller.
func Open(cfg Config, tel *telemetry.Component) (*Log, error) {
	p := DefaultPolicy()
	var err error
	if cfg.PolicyFile != "" {
		if p, err = ReadPolicy(cfg.PolicyFile); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.Mode != "" && cfg.Mode != Blocking && cfg.Mode != BlockingStrict:
		return nil, fmt.Errorf("cannot audit in mode %q: it is %q or %q", cfg.Mode, Blocking, BlockingStrict)
	case cfg.MaxSize < 0 || cfg.MaxBackups < 0 || cfg.MaxAge < 0:
		return nil, fmt.Errorf("cannot rotate the audit log at %d MiB, keeping %d files for %d days: none may be negative", cfg.MaxSize, cfg.MaxBackups, cfg.MaxAge)
	}
	var w io.Writer
	var file *lumberjack.Logger
	switch cfg.Path {
	case "":
	case "-":
		w = os.Stdout
	default:
		if err := openable(cfg.Path); err != nil {
			return nil, err
		}
		file = &lumberjack.Logger{Filename: cfg.Path, MaxSize: cfg.MaxSize, MaxBackups: cfg.MaxBackups, MaxAge: cfg.MaxAge, Compress: cfg.Compress}
		w = file
	}
	l, err := New(w, p, tel)
	if err != nil {
		return nil, err
	}
	l.strict = cfg.Mode == BlockingStrict
	if file != nil {
		l.closer = file
	}
	return l, nil
}

// openable finds out at start what would fail at the first request.
func openable(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	return f.Close()
}

// New returns a log that writes to w, or only counts if w is nil. A nil policy
// is DefaultPolicy.
func New(w io.Writer, p *Policy, tel *telemetry.Component) (*Log, error) {
	if p == nil {
		p = DefaultPolicy()
	}
	m, err := newMetrics(tel.Registry)
	if err != nil {
		return nil, err
	}
	return &Log{policy: p, sink: w, tel: tel, metrics: m, buffers: sync.Pool{New: func() any { return new([]byte) }}}, nil
}

// Close closes the file.
func (l *Log) Close() error {
	if l.closer == nil {
		return nil
	}
	return l.closer.Close()
}

// Write makes the event of a stage, unless the policy omits it. An error means
// that the request must not go on: its RequestReceived could not be written
// and the log is strict. Other failures are counted and logged.
func (r *Record) Write(stage Stage) error {
	if !r.Enabled() || r.verdict.omits(stage) {
		return nil
	}
	l := r.log
	l.metrics.events.Inc()
	if l.sink == nil {
		return nil
	}
	buf := l.buffers.Get().(*[]byte)
	*buf = appendEvent((*buf)[:0], r, stage, time.Now())
	l.mu.Lock()
	_, err := l.sink.Write(*buf)
	l.mu.Unlock()
	if cap(*buf) <= 64<<10 {
		l.buffers.Put(buf)
	}
	if err == nil {
		return nil
	}
	l.metrics.errors.Inc()
	l.tel.Log.Error("audit event not written", "auditID", r.ID, "stage", stage, "error", err)
	if l.strict && stage == RequestReceived {
		l.metrics.refused.Inc()
		return fmt.Errorf("failed to store audit event: %w", err)
	}
	return nil
}

// metrics are upstream's.
type metrics struct {
	events, refused, errors                 prometheus.Counter
	none, metadata, request, requestAndMore prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	levels := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_audit_level_total", Help: "Requests by the level at which the policy has them audited."}, []string{"level"})
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_audit_error_total", Help: "Audit events that could not be written."}, []string{"plugin"})
	m := &metrics{
		events:  prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_event_total", Help: "Audit events made."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_requests_rejected_total", Help: "Requests refused because they could not be audited."}),
		errors:  errs.WithLabelValues("log"),
		none:    levels.WithLabelValues(string(None)), metadata: levels.WithLabelValues(string(Metadata)),
		request: levels.WithLabelValues(string(Request)), requestAndMore: levels.WithLabelValues(string(RequestResponse)),
	}
	for _, c := range []prometheus.Collector{levels, errs, m.events, m.refused} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register audit metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) level(l Level) prometheus.Counter {
	switch l {
	case None:
		return m.none
	case Request:
		return m.request
	case RequestResponse:
		return m.requestAndMore
	}
	return m.metadata
}
