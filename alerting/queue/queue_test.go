package queue

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

type drops map[string]int

func open(t *testing.T, path string, l Limits, now func() time.Time) (*Store, drops) {
	t.Helper()
	d := drops{}
	s, err := Open(path, l, now, func(destination, reason string, n int) { d[destination+" "+reason] += n })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, d
}

var (
	wide = Limits{Items: 100, Bytes: 1 << 20, Age: time.Hour}
	t0   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func at(d time.Duration) func() time.Time { return func() time.Time { return t0.Add(d) } }

// put writes "group:body" or "group!:body" for a critical item.
func put(t *testing.T, s *Store, destination, spec string) {
	t.Helper()
	group, body, _ := strings.Cut(spec, ":")
	g, critical := strings.CutSuffix(group, "!")
	if err := s.Put(destination, Item{Group: g, Critical: critical, Enqueued: s.now(), Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

func drain(t *testing.T, s *Store, destination string) (out []string) {
	t.Helper()
	for {
		e, _, ok, err := s.Next(destination, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		out = append(out, e.Group+":"+string(e.Body))
		if err := s.Done(destination, e.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOrder(t *testing.T) {
	for in, want := range map[string]string{
		"a:1 b:1 a:2":       "a:1 b:1 a:2",
		"a:1 b!:1 a:2":      "b:1 a:1 a:2",
		"a:1 b:1 a!:2 c:1":  "a:1 a:2 b:1 c:1", // order within the group holds
		"a:1 b!:1 c!:1 b:2": "b:1 c:1 a:1 b:2", // b has no critical item left after b:1
	} {
		s, _ := open(t, filepath.Join(t.TempDir(), "q.db"), wide, at(0))
		for _, spec := range strings.Fields(in) {
			put(t, s, "d", spec)
		}
		if got := strings.Join(drain(t, s, "d"), " "); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestRank(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "q.db"), wide, at(0))
	for _, spec := range []string{"bad!:1", "a:1", "bad!:2", "worse!:1"} {
		put(t, s, "d", spec)
	}
	rank := map[string]int64{"bad": 1, "worse": 2}
	e, _, _, err := s.Next("d", func(g string) int64 { return rank[g] })
	if err != nil || e.Group != "a" {
		t.Errorf("%+v %v, want group a", e, err)
	}
	if err := s.Done("d", e.ID); err != nil {
		t.Fatal(err)
	}
	if e, _, _, _ := s.Next("d", func(g string) int64 { return rank[g] }); e.Group != "bad" || string(e.Body) != "1" {
		t.Errorf("%+v, want bad:1", e)
	}
}

func TestSurvivesReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "q.db")
	s, _ := open(t, path, wide, at(0))
	put(t, s, "d", "a:1")
	put(t, s, "d", "a:2")
	put(t, s, "e", "a:3")
	e, _, _, _ := s.Next("d", nil)
	if err := s.Done("d", e.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, d := open(t, path, wide, at(0))
	put(t, s, "d", "a:4")
	if got := drain(t, s, "d"); !slices.Equal(got, []string{"a:2", "a:4"}) {
		t.Errorf("d: %v", got)
	}
	if got := drain(t, s, "e"); !slices.Equal(got, []string{"a:3"}) || len(d) != 0 {
		t.Errorf("e: %v, dropped %v", got, d)
	}
}

func TestBounds(t *testing.T) {
	s, d := open(t, filepath.Join(t.TempDir(), "q.db"), Limits{Items: 3, Bytes: 1 << 20, Age: time.Hour}, at(0))
	for i := range 5 {
		put(t, s, "d", fmt.Sprintf("g%d:%d", i, i))
	}
	put(t, s, "other", "g:1")
	if got := drain(t, s, "d"); !slices.Equal(got, []string{"g2:2", "g3:3", "g4:4"}) || d["d "+ReasonFull] != 2 {
		t.Errorf("%v, dropped %v", got, d)
	}
	if got := drain(t, s, "other"); len(got) != 1 {
		t.Errorf("other queue: %v", got)
	}
	for _, spec := range []string{"a!:1", "b:2", "c!:3", "d!:4"} {
		put(t, s, "d", spec)
	}
	if got := drain(t, s, "d"); !slices.Equal(got, []string{"a:1", "c:3", "d:4"}) {
		t.Errorf("critical items were let go first: %v", got)
	}

	s, d = open(t, filepath.Join(t.TempDir(), "q.db"), Limits{Items: 100, Bytes: 1000, Age: time.Hour}, at(0))
	for range 20 {
		put(t, s, "d", "g:"+strings.Repeat("x", 100))
		if b := s.Stats()["d"].Bytes; b > 1000 {
			t.Fatalf("%d bytes", b)
		}
	}
	if err := s.Put("d", Item{Body: make([]byte, 2000)}); err == nil {
		t.Error("an item larger than the queue was taken")
	}
	if n := len(drain(t, s, "d")); n+d["d "+ReasonFull] != 21 {
		t.Errorf("%d delivered, %v dropped", n, d)
	}
}

func TestAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	s, d := open(t, path, wide, at(0))
	put(t, s, "d", "a:old")
	s.now = at(30 * time.Minute)
	put(t, s, "d", "a:new")
	s.now = at(61 * time.Minute)
	if err := s.Expire(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats()["d"]; st.Items != 1 || !st.Oldest.Equal(t0.Add(30*time.Minute)) || d["d "+ReasonExpired] != 1 {
		t.Errorf("%+v, dropped %v", st, d)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, d = open(t, path, wide, at(2*time.Hour))
	if got := drain(t, s, "d"); len(got) != 0 || d["d "+ReasonExpired] != 1 {
		t.Errorf("after reopening: %v, dropped %v", got, d)
	}
}

func TestDamagedItem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	s, _ := open(t, path, wide, at(0))
	put(t, s, "d", "a:1")
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("d")).Put(key(77), []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, d := open(t, path, wide, at(0))
	if got := drain(t, s, "d"); len(got) != 1 || d["d "+ReasonDamaged] != 1 {
		t.Errorf("%v, dropped %v", got, d)
	}
}

func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	open(t, path, wide, at(0))
	if _, err := Open(path, wide, at(0), nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second open: %v", err)
	}
}

func TestChanged(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "q.db"), wide, at(0))
	_, changed, ok, err := s.Next("d", nil)
	if ok || err != nil {
		t.Fatal(ok, err)
	}
	put(t, s, "other", "a:1")
	select {
	case <-changed:
		t.Error("woken by another queue")
	default:
	}
	put(t, s, "d", "a:1")
	<-changed
}
