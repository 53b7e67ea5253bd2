package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// fill writes n versions of one config map.
func fill(t testing.TB, s *Store, name string, n int) {
	t.Helper()
	if _, err := s.Create(t.Context(), configMaps, configMap("ns", name, "first")); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := s.Update(t.Context(), configMaps, key("ns", name), Preconditions{}, setData(fmt.Sprintf("%d-%d", s.Revision(), i))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOverrun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true, RingEvents: minRing})
	start := s.Revision()
	stopped := must(s.Watch(ctx, configMaps, start, Filter{}))(t)
	defer stopped.Close()
	busy := must(s.Watch(ctx, configMaps, start, Filter{Namespace: "ns", Name: "busy"}))(t)
	defer busy.Close()
	idle := must(s.Watch(ctx, configMaps, start, Filter{Namespace: "ns", Name: "idle"}))(t)
	defer idle.Close()
	kept := must(s.Snapshot(ctx, configMaps, Latest()))(t)
	kept.Keep()
	fill(t, s, "busy", 2*minRing)

	for name, c := range map[string]*Cursor{"stopped": stopped, "busy": busy} {
		if _, err := c.Next(ctx); !apierrors.IsResourceExpired(err) {
			t.Errorf("%s cursor: %v, want expired", name, err)
		}
	}
	// The ring moved on, but nothing of it concerned this one.
	made := must(s.Create(ctx, configMaps, configMap("ns", "idle", "")))(t)
	if ev := must(idle.Next(ctx))(t); ev.Entry != made {
		t.Errorf("idle cursor got %+v", ev)
	}
	if _, err := s.Watch(ctx, configMaps, start, Filter{}); !apierrors.IsResourceExpired(err) {
		t.Errorf("watch from the start: %v", err)
	}
	if old := must(s.Snapshot(ctx, configMaps, Exact(kept.Revision())))(t); old.Len() != 0 {
		t.Errorf("the kept snapshot has %d objects, want 0", old.Len())
	}
	if _, err := s.Snapshot(ctx, configMaps, Exact(start+2)); !apierrors.IsResourceExpired(err) {
		t.Errorf("exact read that is not kept: %v", err)
	}
	if _, err := s.Snapshot(ctx, configMaps, Exact(s.Revision()-10)); err != nil {
		t.Errorf("exact read within the ring: %v", err)
	}
}

// TestCompactedHistory loses the watch's place: readers get the present,
// cursors expire.
func TestCompactedHistory(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		fill(t, s, "a", 3)
		c := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
		defer c.Close()
		indexed := must(s.Watch(ctx, configMaps, 0, Filter{Namespace: "ns", Name: "a"}))(t)
		defer indexed.Close()

		// As if the watch had been away since the first revision.
		s.cancel()
		s.owned.Wait()
		must(s.etcd.Put(ctx, "/registry/configmaps/ns/b", "unseen"))(t)
		resp, err := s.etcd.Put(ctx, "/registry/configmaps/ns/a", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"ns","name":"a"},"data":{"v":"missed"}}`)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.etcd.Compact(ctx, resp.Header.Revision); err != nil {
			t.Fatal(err)
		}
		run, cancel := context.WithCancel(context.Background())
		s.cancel = cancel
		s.owned.Go(func() { s.feed(run) })
		s.owned.Go(func() { s.check(run) })
		s.owned.Go(func() { s.askProgress(run) })

		e := must(s.Get(ctx, configMaps, key("ns", "a"), Latest()))(t)
		if v := e.Object.(*corev1.ConfigMap).Data["v"]; v != "missed" {
			t.Errorf("read %q after compaction", v)
		}
		for _, c := range []*Cursor{c, indexed} {
			if _, err := c.Next(ctx); !apierrors.IsResourceExpired(err) {
				t.Errorf("cursor after compaction: %v", err)
			}
		}
		again := must(s.Watch(ctx, configMaps, e.Revision, Filter{}))(t)
		defer again.Close()
		fill(t, s, "a", 1)
		if ev := must(again.Next(ctx))(t); ev.Type != client.Modified || ev.Prev != e {
			t.Errorf("event %+v", ev)
		}
	})
}

// TestEtcdRestarts holds that a store outlives its external etcd and loses no
// event over it.
func TestEtcdRestarts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := Config{
		Dir: t.TempDir(), ListenClient: "unix://" + filepath.Join(shortDir(t), "s"),
		QuotaBytes: defaultQuota, CompactEvery: time.Hour,
	}
	srv := must(startServer(ctx, cfg, telemetry.Discard()))(t)
	t.Cleanup(func() { srv.close() })
	s := open(t, Config{Endpoints: []string{cfg.ListenClient}})
	c := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
	defer c.Close()
	fill(t, s, "a", 1)
	srv.close()
	brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := s.Snapshot(brief, configMaps, Latest()); err == nil {
		t.Error("a linearizable read succeeded without etcd")
	}
	if _, err := s.Snapshot(brief, configMaps, Any()); err != nil {
		t.Errorf("read from the cache without etcd: %v", err)
	}
	srv = must(startServer(ctx, cfg, telemetry.Discard()))(t)
	// Behind the store's back.
	must(srv.client().Put(ctx, "/registry/configmaps/ns/b", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"ns","name":"b"}}`))(t)
	want := must(s.Get(ctx, configMaps, key("ns", "b"), Latest()))(t)
	var saw []string
	for ev := (Event{}); ev.Entry != want; {
		ev = must(c.Next(ctx))(t)
		saw = append(saw, string(ev.Type)+" "+ev.Entry.Key.Name)
	}
	if got, want := strings.Join(saw, ", "), "ADDED a, MODIFIED a, ADDED b"; got != want {
		t.Errorf("saw %s, want %s", got, want)
	}
}

func TestCompactExternal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Endpoints: []string{externalEtcd(t)}})
	fill(t, s, "a", 3)
	turn, revision, err := s.compactOnce(ctx, 0, 0)
	if err != nil || turn != 1 {
		t.Fatalf("turn %d, %v", turn, err)
	}
	if _, other, _ := s.compactOnce(ctx, 0, 0); other < revision {
		t.Errorf("the loser of the turn saw revision %d after %d", other, revision)
	}
	if _, _, err = s.compactOnce(ctx, turn, revision); err != nil {
		t.Fatal(err)
	}
	if _, err := s.etcd.Compact(ctx, revision); err == nil {
		t.Error("history was still there after compaction")
	}
}

func TestStoppedReaderHarmsNobody(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true, RingEvents: minRing})
	for range 100 {
		c := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
		defer c.Close()
	}
	live := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
	defer live.Close()
	for i := range 3 * minRing {
		fill(t, s, "a", 1)
		for {
			ev := must(live.Next(ctx))(t)
			if ev.Revision == s.Revision() {
				break
			}
		}
		_ = i
	}
}

func TestCursorEnds(t *testing.T) {
	t.Parallel()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	c := must(s.Watch(t.Context(), configMaps, 0, Filter{}))(t)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { _, err := c.Next(ctx); ended <- err }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	go func() { _, err := c.Next(context.Background()); ended <- err }()
	c.Close()
	c.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("closed: %v", err)
	}
	c = must(s.Watch(t.Context(), configMaps, 0, Filter{}))(t)
	defer c.Close()
	go func() { _, err := c.Next(context.Background()); ended <- err }()
	shut(t, s)
	if err := <-ended; !apierrors.IsServiceUnavailable(err) {
		t.Errorf("store closed: %v", err)
	}
	shut(t, s)
}

func TestBookmark(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	other := must(s.Watch(ctx, configMaps, 0, Filter{Namespace: "elsewhere"}))(t)
	defer other.Close()
	indexed := must(s.Watch(ctx, configMaps, 0, Filter{Namespace: "ns", Name: "other"}))(t)
	defer indexed.Close()
	all := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
	defer all.Close()
	fill(t, s, "a", 2)
	must(s.Create(ctx, nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}))(t)

	if got := indexed.Bookmark(); got != s.Revision() {
		t.Errorf("bookmark of the indexed cursor is %d, store at %d", got, s.Revision())
	}
	if got := all.Bookmark(); got >= s.Revision()-3 {
		t.Errorf("bookmark of a cursor that returned nothing yet is %d, store at %d", got, s.Revision())
	}
	if _, ok, err := other.TryNext(); ok || err != nil {
		t.Errorf("cursor elsewhere got an event: %v", err)
	}
	for _, c := range []*Cursor{other, all} {
		for ok := true; ok; {
			var err error
			if _, ok, err = c.TryNext(); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.Bookmark(); got != s.Revision() {
			t.Errorf("bookmark is %d, store at %d", got, s.Revision())
		}
	}
	again := must(s.Watch(ctx, configMaps, all.Bookmark(), Filter{}))(t)
	defer again.Close()
	fill(t, s, "a", 1)
	if ev := must(again.Next(ctx))(t); ev.Revision != s.Revision() {
		t.Errorf("event at %d, store at %d", ev.Revision, s.Revision())
	}
}

// TestBookmarkWithinTransaction changes two objects at one revision: a bookmark
// between their events must not lose the second.
func TestBookmarkWithinTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	fill(t, s, "a", 0)
	fill(t, s, "b", 0)
	c := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
	defer c.Close()
	resp := must(s.etcd.Delete(ctx, "/registry/configmaps/ns/", clientv3.WithPrefix()))(t)
	for i, want := range []int64{resp.Header.Revision - 1, resp.Header.Revision} {
		if ev := must(c.Next(ctx))(t); ev.Type != client.Deleted || ev.Revision != resp.Header.Revision {
			t.Errorf("event %d: %+v", i, ev)
		}
		if got := c.Bookmark(); got != want {
			t.Errorf("bookmark after event %d is %d, want %d", i, got, want)
		}
	}
}

// TestLostObjectIsShared holds that cursors which lose an object by the same
// event get the same entry, so that it is encoded once.
func TestLostObjectIsShared(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	must(s.Create(ctx, pods, pod("ns", "p", "n1")))(t)
	f := Filter{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")}
	a, b := must(s.Watch(ctx, pods, 0, f))(t), must(s.Watch(ctx, pods, 0, f))(t)
	defer a.Close()
	defer b.Close()
	e := must(s.Update(ctx, pods, key("ns", "p"), Preconditions{}, func(*Entry) (client.Object, error) { return pod("ns", "p", "n2"), nil }))(t)
	first, again := must(a.Next(ctx))(t), must(b.Next(ctx))(t)
	if first.Type != client.Deleted || first.Entry != again.Entry || first.Entry.Revision != e.Revision || nodeOf(first.Entry) != "n1" {
		t.Errorf("%+v and %+v", first, again)
	}
}

// TestIndexedCursorsSleep holds that an event wakes those concerned only.
func TestIndexedCursorsSleep(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	onNode := func(node string) *Cursor {
		c := must(s.Watch(ctx, pods, 0, Filter{Fields: fields.OneTermEqualSelector("spec.nodeName", node)}))(t)
		t.Cleanup(c.Close)
		return c
	}
	n1, n2 := onNode("n1"), onNode("n2")
	_, sleeping, _ := n2.take()
	_, waiting, _ := n1.take()
	must(s.Create(ctx, pods, pod("ns", "p", "")))(t)
	for _, c := range []<-chan struct{}{sleeping, waiting} {
		select {
		case <-c:
			t.Error("an unbound pod woke a node's cursor")
		default:
		}
	}
	must(s.Update(ctx, pods, key("ns", "p"), Preconditions{}, func(*Entry) (client.Object, error) { return pod("ns", "p", "n1"), nil }))(t)
	<-waiting
	select {
	case <-sleeping:
		t.Error("a pod of n1 woke n2's cursor")
	default:
	}
	if ev := must(n1.Next(ctx))(t); ev.Type != client.Added {
		t.Errorf("%+v", ev)
	}
	n1.Close()
	n2.Close()
	tab, _ := s.table(pods)
	if len(tab.buckets) != 0 {
		t.Errorf("%d buckets left after their cursors", len(tab.buckets))
	}
}

func TestRingGrowsAndForgets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	tab := (&Store{cfg: Config{RingEvents: 1024, RingAge: time.Minute}, metrics: newMetrics()}).newTable(testKinds()[2])
	tab.now = func() time.Time { return now }
	rev := int64(1)
	write := func(n int) {
		for range n {
			rev++
			tab.put(&Entry{path: "ns/a", Key: key("ns", "a"), Revision: rev, Object: configMap("ns", "a", "")})
			tab.publish()
		}
	}
	write(700)
	if len(tab.buf) != 1024 || tab.floor != 0 {
		t.Errorf("ring has room for %d, floor %d", len(tab.buf), tab.floor)
	}
	write(1000)
	if n := tab.next - tab.first; n != 1024 || len(tab.buf) != 1024 || tab.floor != rev-1024 {
		t.Errorf("ring has %d of %d, floor %d at %d", n, len(tab.buf), tab.floor, rev)
	}
	now = now.Add(2 * time.Minute)
	write(1)
	if n := tab.next - tab.first; n != minRing+1 || tab.floor != rev-minRing-1 {
		t.Errorf("ring has %d old events, floor %d at %d", n, tab.floor, rev)
	}
}

func TestKeptSnapshots(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	tab := (&Store{cfg: Config{RingEvents: minRing, RingAge: time.Minute, KeepFor: 5 * time.Minute}, metrics: newMetrics()}).newTable(testKinds()[2])
	tab.now = func() time.Time { return now }
	rev := int64(1)
	write := func(n, size int) {
		for range n {
			rev++
			tab.put(&Entry{path: "ns/a", Key: key("ns", "a"), Revision: rev, Object: configMap("ns", "a", ""), size: size})
			tab.publish()
		}
	}
	keep := func() int64 {
		v := tab.current.Load()
		tab.keep(v.revision, v.entries)
		return v.revision
	}
	held := func(revision int64) bool {
		tab.age()
		entries, ok := tab.at(revision)
		if !ok {
			return false
		}
		it, _ := entries.Get(item{path: "ns/a"})
		if it.entry.Revision != revision {
			t.Errorf("at %d there is %d", revision, it.entry.Revision)
		}
		return true
	}

	write(1, 10)
	first := rev
	view, _ := tab.at(first)
	keep()
	write(2*minRing, 10)
	if !held(first) || held(first+1) {
		t.Errorf("kept: %v, not kept: %v", held(first), held(first+1))
	}
	now = now.Add(5*time.Minute - time.Second)
	tab.keep(first, view) // the next page
	if !held(first) {
		t.Error("gone before its time")
	}
	now = now.Add(time.Second)
	if held(first) {
		t.Error("the second page has prolonged it")
	}

	big := keep()
	write(2*minRing, maxKeptBytes/minRing)
	if held(big) {
		t.Error("kept whatever it costs")
	}
	write(1, 10)
	oldest := keep()
	for range maxKept {
		write(3, 10)
		keep()
	}
	if len(tab.kept) != maxKept || held(oldest) || !held(rev) {
		t.Errorf("%d kept, oldest: %v", len(tab.kept), held(oldest))
	}
}
