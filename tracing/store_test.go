package tracing

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func numbered(n int) *Span {
	s := span(fmt.Sprintf("svc-%d", n%7), fmt.Sprintf("op-%d", n%31), 1, 0, t0.Add(time.Duration(n)*time.Millisecond), time.Millisecond)
	s.Trace = TraceID{12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	s.Trace[0] = 1
	s.Attrs = []Attr{{"n", Value{Type: TypeInt, Int: int64(n)}}, {"text", Value{Type: TypeString, Str: "some attribute value"}}}
	return s
}

func TestSizeBound(t *testing.T) {
	evicted := 0
	s := newStore(Config{MaxBytes: 256 << 10, MaxAge: time.Hour}, "", func(reason string, n int) {
		if reason != evictedSize {
			t.Errorf("evicted by %s", reason)
		}
		evicted += n
	})
	const n = 20000
	for i := range n {
		s.add([]*Span{numbered(i)}, t0)
		if b, _, _ := s.size(); b > 256<<10 {
			t.Fatalf("%d bytes after %d spans", b, i)
		}
	}
	_, kept, _ := s.size()
	if kept+evicted != n || kept < 500 || evicted == 0 {
		t.Errorf("kept %d, evicted %d of %d", kept, evicted, n)
	}
	if got, _ := s.trace(numbered(n - 1).Trace); len(got) != 1 {
		t.Error("the newest span is gone")
	}
	if got, _ := s.trace(numbered(0).Trace); len(got) != 0 {
		t.Error("the oldest span is still there")
	}
}

func TestAgeBound(t *testing.T) {
	evicted := 0
	s := newStore(Config{MaxBytes: 1 << 20, MaxAge: time.Hour, SegmentAge: time.Minute}, "", func(reason string, n int) {
		if reason == evictedAge {
			evicted += n
		}
	})
	future := numbered(1)
	future.Start = t0.Add(1000 * time.Hour).UnixNano() // a sender's clock must not keep spans alive
	s.add([]*Span{future}, t0)
	for _, at := range []time.Duration{time.Minute, time.Hour} {
		if err := s.maintain(t0.Add(at), false); err != nil || evicted != 0 {
			t.Fatalf("after %s: evicted %d, %v", at, evicted, err)
		}
	}
	s.add([]*Span{numbered(2)}, t0.Add(time.Hour))
	if err := s.maintain(t0.Add(time.Hour+time.Second), false); err != nil {
		t.Fatal(err)
	}
	if _, n, _ := s.size(); n != 1 || evicted != 1 {
		t.Errorf("kept %d, evicted %d", n, evicted)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	first, stop := start(t, Config{DataDir: dir, MaxBytes: 1 << 20})
	all := example()
	first.accept(all, sourceOwn)
	for i := range 2000 {
		first.accept([]*Span{numbered(i)}, sourceOwn)
	}
	want, _ := first.Trace(all[0].Trace)
	wantLatest := first.Latest(50)
	stop()

	// A damaged segment costs its spans and nothing else.
	bad := filepath.Join(dir, "traces", "00000000000000ff.seg")
	if err := os.WriteFile(bad, []byte(segmentMagic+"nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, _ := start(t, Config{DataDir: dir, MaxBytes: 1 << 20})
	got, err := second.Trace(all[0].Trace)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("trace after restart (%v):\n%+v\nwant\n%+v", err, got, want)
	}
	if got := second.Latest(50); !reflect.DeepEqual(got, wantLatest) {
		t.Errorf("latest after restart:\n%+v\nwant\n%+v", got, wantLatest)
	}
	if _, err := os.Stat(bad); !os.IsNotExist(err) {
		t.Errorf("damaged segment: %v", err)
	}
	if n := sample(t, second.tel.Registry, "binnacle_tracing_store_errors_total"); n != 1 {
		t.Errorf("store errors %v, want 1", n)
	}
	second.accept([]*Span{numbered(99999)}, sourceOwn)
	if _, n, _ := second.store.size(); n != 2003 {
		t.Errorf("%d spans, want 2003", n)
	}
}

// TestDiskFollowsMemory checks that evicted segments leave no files.
func TestDiskFollowsMemory(t *testing.T) {
	dir := t.TempDir()
	s := newStore(Config{MaxBytes: 128 << 10, MaxAge: time.Hour, SegmentAge: time.Minute}, segmentDir(dir), func(string, int) {})
	for i := range 5000 {
		s.add([]*Span{numbered(i)}, t0)
		if i%500 == 0 {
			if err := s.maintain(t0, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.maintain(t0, true); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, segments := s.size(); len(files) != segments || segments < 2 {
		t.Errorf("%d files for %d segments", len(files), segments)
	}
}

func TestUnwritableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{DataDir: file}, quiet().Component("tracing", "tracing")); err == nil {
		t.Error("no error")
	}
}

func TestTakenPort(t *testing.T) {
	tr, _ := start(t, Config{GRPCAddress: "127.0.0.1:0"})
	if _, err := New(Config{HTTPAddress: tr.GRPCAddr().String()}, quiet().Component("tracing", "tracing")); err == nil {
		t.Error("no error")
	}
}

func FuzzDecodeSegment(f *testing.F) {
	g := newSegment(0, t0)
	for _, s := range example() {
		g.add(s)
	}
	b := encodeSegment(g)
	f.Add(b[len(segmentMagic) : len(b)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		g, err := decodeSegmentBody(0, body)
		if err != nil {
			return
		}
		for n := range g.heads {
			_, _ = g.span(uint32(n)) // must not panic
		}
	})
}

func FuzzOTLP(f *testing.F) {
	f.Add([]byte(otlpJSON), true)
	f.Add([]byte("\n\x00"), false)
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		media := typeProtobuf
		if isJSON {
			media = typeJSON
		}
		req, err := decodeOTLP(media, body)
		if err != nil {
			return
		}
		g := newSegment(0, t0)
		for _, s := range fromOTLP(req.Traces()) {
			g.add(s)
		}
		for n := range g.heads {
			s, err := g.span(uint32(n))
			if err != nil {
				t.Fatalf("cannot read back: %v", err)
			}
			toJaeger(s.Trace, []*Span{s})
			toOTLP([]*Span{s})
		}
		if len(g.heads) > 0 {
			if _, err := decodeSegment(0, encodeSegment(g)); err != nil {
				t.Fatalf("cannot read back the segment: %v", err)
			}
		}
	})
}

func FuzzTraceQL(f *testing.F) {
	f.Add(`{ resource.service.name = "a" && duration > 10ms }`)
	f.Add("{ name =~ `x` }")
	s := example()[0]
	f.Fuzz(func(t *testing.T, q string) {
		if match, err := parseTraceQL(q); err == nil {
			match(s)
		}
		_, _ = parseLogfmt(q)
	})
}

func BenchmarkAdd(b *testing.B) {
	b.ReportAllocs()
	s := newStore(Config{MaxBytes: 64 << 20, MaxAge: time.Hour}, "", func(string, int) {})
	spans := make([]*Span, 1000)
	for i := range spans {
		spans[i] = numbered(rand.IntN(1 << 30))
	}
	for b.Loop() {
		s.add(spans[:100], t0)
	}
	bytes, n, _ := s.size()
	b.ReportMetric(float64(bytes)/float64(n), "B/span")
}

func BenchmarkFind(b *testing.B) {
	tr, err := New(Config{}, quiet().Component("tracing", "tracing"))
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200000 {
		tr.store.add([]*Span{numbered(i)}, t0)
	}
	_, n, _ := tr.store.size()
	b.Run(fmt.Sprintf("spans=%d/heads", n), func(b *testing.B) {
		for b.Loop() {
			if _, err := tr.Find(Query{Service: "svc-3", Operation: "op-9", Limit: 20}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprintf("spans=%d/attrs", n), func(b *testing.B) {
		for b.Loop() {
			if _, err := tr.Find(Query{Service: "svc-3", Attrs: map[string]string{"n": "17"}, Limit: 20}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(fmt.Sprintf("spans=%d/latest", n), func(b *testing.B) {
		for b.Loop() {
			tr.Latest(20)
		}
	})
}
