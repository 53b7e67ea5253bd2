package alerting

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"go.uber.org/goleak"

	"binnacle.io/core/telemetry"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// world is the storage that rules read, with a series to switch on and off.
type world struct {
	t  *testing.T
	st *teststorage.TestStorage
}

func newWorld(t *testing.T) *world { return &world{t, teststorage.New(t)} }

func (w *world) deps() Deps {
	return Deps{Queryable: w.st, Appendable: w.st, Engine: promqltest.NewTestEngine(w.t, false, time.Minute, 10000)}
}

func (w *world) set(v float64, l ...string) {
	w.t.Helper()
	a := w.st.Appender(w.t.Context())
	_, err := a.Append(storage.SeriesRef(0), labels.FromStrings(l...), time.Now().UnixMilli(), v)
	if err == nil {
		err = a.Commit()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) broken(pod string, v float64) {
	w.set(v, "__name__", "broken", "namespace", "shop", "pod", pod)
}

const brokenRule = `
groups:
  - name: test
    interval: 1s
    rules:
      - alert: Broken
        expr: broken == 1
        labels: {severity: critical}
        annotations:
          summary: Pod is broken.
          description: 'Pod {{ $labels.namespace }}/{{ $labels.pod }} is broken.'
`

// receiver is an HTTP server that keeps what it is sent.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int) int // status for the nth request, from 0; nil is 200
	n      int
	bodies [][]byte // of requests answered with 200
	came   chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{came: make(chan struct{}, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		code := 200
		if r.answer != nil {
			code = r.answer(r.n)
		}
		r.n++
		if code == 200 {
			r.bodies = append(r.bodies, b)
		}
		r.mu.Unlock()
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok"}`)
		r.came <- struct{}{}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(answer func(int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// wait returns the bodies once there are n.
func (r *receiver) wait(t *testing.T, n int) [][]byte {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		bodies := r.bodies
		r.mu.Unlock()
		if len(bodies) >= n {
			return bodies
		}
		select {
		case <-r.came:
		case <-deadline:
			t.Fatalf("%d of %d messages came", len(bodies), n)
		}
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

type instance struct {
	*Alerting
	stop func()
	hub  *telemetry.Hub
	logs *bytes.Buffer
}

func run(t *testing.T, cfg Config, w *world, change ...func(*Alerting)) *instance {
	t.Helper()
	logs := &syncBuffer{}
	hub := telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})})
	a, err := New(cfg, w.deps(), hub.Component("alerting", "alertmanager"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			if t.Failed() {
				t.Logf("log:\n%s", logs.tail())
			}
		})
	}
	t.Cleanup(stop)
	eventually(t, "ready", func() bool { return a.router.Load() != nil })
	return &instance{Alerting: a, stop: stop, hub: hub, logs: &logs.Buffer}
}

type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.String()
	return s[max(0, len(s)-6000):]
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(t *testing.T, dir, yml string) Config {
	return Config{
		DataDir: dir, NoDefaultRules: true, RuleFiles: []string{write(t, "rules.yml", brokenRule)},
		File: write(t, "alertmanager.yml", yml), MaxRetryInterval: 200 * time.Millisecond, AttemptTimeout: 2 * time.Second,
	}
}

func routeTo(receivers string) string {
	return `
route:
  receiver: ops
  group_by: [alertname]
  group_wait: 0s
  group_interval: 500ms
  repeat_interval: 1h
receivers:
` + receivers
}

func sample(t *testing.T, reg *prometheus.Registry, name string, want ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			ok := f.GetName() == name
			for _, w := range want {
				ok = ok && strings.Contains(m.String(), `"`+w+`"`)
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

var times = regexp.MustCompile(`"(startsAt|endsAt)": "2[^"]*"`)

func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		t.Fatalf("not JSON: %s", body)
	}
	got := times.ReplaceAll(b.Bytes(), []byte(`"$1": "TIME"`))
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}
