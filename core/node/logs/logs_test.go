package logs_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"binnacle.io/core/node/logs"
)

func file(t *testing.T, lines ...string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(p, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func line(sec int, stream, tag, text string) string {
	return fmt.Sprintf("2026-01-01T00:00:%02d.5Z %s %s %s\n", sec, stream, tag, text)
}

func TestRead(t *testing.T) {
	p := file(t, line(1, "stdout", "F", "one"), line(2, "stderr", "F", "two"), line(3, "stdout", "P", "thr"), line(3, "stdout", "F", "ee"),
		"half a line\n", line(4, "stdout", "F", ""))
	all := logs.Options{Tail: -1, Limit: -1, Stdout: true, Stderr: true}
	f := func(name, want string, change func(*logs.Options)) {
		t.Helper()
		o := all
		change(&o)
		var b bytes.Buffer
		if err := logs.Read(context.Background(), p, o, &b, nil); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v; want %q", name, b.String(), err, want)
		}
	}
	f("all", "one\ntwo\nthree\n\n", func(o *logs.Options) {})
	f("stdout", "one\nthree\n\n", func(o *logs.Options) { o.Stderr = false })
	f("tail", "\n", func(o *logs.Options) { o.Tail = 1 })
	f("tail 0", "", func(o *logs.Options) { o.Tail = 0 })
	f("tail of more than all", "one\ntwo\nthree\n\n", func(o *logs.Options) { o.Tail = 100 })
	f("limit", "one\ntw", func(o *logs.Options) { o.Limit = 6 })
	f("since", "three\n\n", func(o *logs.Options) { o.Since = time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC) })
	f("timestamps once a line", "2026-01-01T00:00:03.5Z three\n2026-01-01T00:00:04.5Z \n", func(o *logs.Options) {
		o.Timestamps, o.Since = true, time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC)
	})
}

// syncBuffer is a buffer for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestFollowAcrossRotation(t *testing.T) {
	p := file(t, line(1, "stdout", "F", "one"))
	var running atomic.Bool
	running.Store(true)
	var out syncBuffer
	done := make(chan error, 1)
	go func() {
		done <- logs.Read(context.Background(), p, logs.Options{Follow: true, Tail: -1, Limit: -1, Stdout: true, Stderr: true}, &out, running.Load)
	}()
	wait := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); out.String() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("got %q, want %q", out.String(), want)
			}
			runtime.Gosched()
		}
	}
	wait("one\n")
	r := logs.Rotation{MaxSize: 1, MaxFiles: 3}
	for i := range 4 {
		reopen := func() error { return os.WriteFile(p, []byte(line(2+i, "stdout", "F", fmt.Sprint("next ", i))), 0o644) }
		if err := r.Rotate(p, time.Unix(int64(i), 0), reopen); err != nil {
			t.Fatal(err)
		}
		want := "one\n"
		for j := range i + 1 {
			want += fmt.Sprintf("next %d\n", j)
		}
		wait(want)
	}
	running.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	old, err := filepath.Glob(p + ".*")
	if err != nil || len(old) != 2 || !strings.HasSuffix(old[0], ".gz") {
		t.Fatalf("rotated files %v, %v", old, err)
	}
	g, err := os.Open(old[0])
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	z, err := gzip.NewReader(g)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !strings.Contains(string(b), "next 1") {
		t.Errorf("compressed log %q, %v", b, err)
	}
}

func TestRotateKeepsNameWhenReopenFails(t *testing.T) {
	p := file(t, line(1, "stdout", "F", "one"))
	if err := (logs.Rotation{MaxSize: 1, MaxFiles: 3}).Rotate(p, time.Unix(1, 0), func() error { return io.ErrClosedPipe }); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(p); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line(1, "stdout", "F", "x")))
	f.Add([]byte("2026-01-01T00:00:01Z stderr P:x y"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := logs.Parse(b)
		if err == nil && l.Stream != "stdout" && l.Stream != "stderr" {
			t.Errorf("stream %q", l.Stream)
		}
	})
}

// TestRotateAfterInterruption ends a rotation that was cut short: the runtime
// still writes to the file that was put aside, and half a compressed one is
// left.
func TestRotateAfterInterruption(t *testing.T) {
	p := file(t, line(1, "stdout", "F", "one"))
	if err := os.Rename(p, p+".20260101-000000"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p+".20251231-000000.tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	reopened := 0
	reopen := func() error {
		reopened++
		return os.WriteFile(p, []byte(line(2, "stdout", "F", "two")), 0o600)
	}
	r := logs.Rotation{MaxSize: 1, MaxFiles: 5}
	for i := range 2 {
		if err := r.Rotate(p, time.Unix(int64(i), 0), reopen); err != nil || reopened != i+1 {
			t.Errorf("round %d: %v, reopened %d times", i, err, reopened)
		}
	}
	if left, err := filepath.Glob(p + ".*.tmp*"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestRotateWithoutLog(t *testing.T) {
	err := logs.Rotation{MaxSize: 1, MaxFiles: 2}.Rotate(filepath.Join(t.TempDir(), "0.log"), time.Unix(1, 0), func() error {
		return errors.New("reopened")
	})
	if err != nil {
		t.Error(err)
	}
}
