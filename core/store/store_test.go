package store

import (
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		os.Exit(writeUntilKilled(dir))
	}
	if dir := os.Getenv(breakDir); dir != "" {
		os.Exit(writeUntilBroken(dir))
	}
	if dir := os.Getenv(fullDiskDir); dir != "" {
		os.Exit(liveOnFullDisk(dir))
	}
	if dir := os.Getenv(rotatorDir); dir != "" {
		os.Exit(rotateUntilKilled(dir))
	}
	goleak.VerifyTestMain(m)
}

var (
	pods       = client.Resource{Resource: "pods"}
	nodes      = client.Resource{Resource: "nodes"}
	configMaps = client.Resource{Resource: "configmaps"}
	events     = client.Resource{Resource: "events"}
	cronTabs   = client.Resource{Group: "example.com", Resource: "crontabs"}
)

type kinds []*kind.Kind

func (k kinds) All() []*kind.Kind { return k }

func testKinds() kinds {
	core := func(name string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(name) }
	return kinds{
		{
			Hub: core("Pod"), Resource: "pods", Prefix: "pods",
			New: func() kind.Object { return &corev1.Pod{} },
			Fields: func(o kind.Object) fields.Set {
				p := o.(*corev1.Pod)
				return fields.Set{"spec.nodeName": p.Spec.NodeName, "status.phase": string(p.Status.Phase)}
			},
		},
		{Hub: core("Node"), Resource: "nodes", Prefix: "minions", ClusterScoped: true, New: func() kind.Object { return &corev1.Node{} }},
		{Hub: core("ConfigMap"), Resource: "configmaps", Prefix: "configmaps", New: func() kind.Object { return &corev1.ConfigMap{} }},
		{Hub: core("Event"), Resource: "events", Prefix: "events", New: func() kind.Object { return &corev1.Event{} }},
		{Hub: schema.GroupVersionKind{Group: "authorization.k8s.io", Version: "v1", Kind: "SubjectAccessReview"}, Resource: "subjectaccessreviews", Virtual: true},
	}
}

func cronTabKind() *kind.Kind {
	gvk := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "CronTab"}
	return &kind.Kind{
		Hub: gvk, Resource: "crontabs", Prefix: "example.com/crontabs",
		New: func() kind.Object {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(gvk)
			return u
		},
		NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
	}
}

func cronTab(ns, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "CronTab",
		"metadata": map[string]any{"namespace": ns, "name": name}, "spec": spec,
	}}
}

func pod(ns, name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: "uid-" + "1"},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func configMap(ns, name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Data: map[string]string{"v": value}}
}

func key(ns, name string) client.Key { return client.Key{Namespace: ns, Name: name} }

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg, testKinds(), telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// externalEtcd runs an etcd with a socket, as someone else would, and returns
// its endpoint.
func externalEtcd(t testing.TB) string {
	t.Helper()
	cfg := Config{
		Dir: t.TempDir(), ListenClient: "unix://" + filepath.Join(shortDir(t), "s"),
		NoFsync: true, QuotaBytes: defaultQuota, CompactEvery: time.Hour,
	}
	srv, err := startServer(t.Context(), cfg, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.close)
	return cfg.ListenClient
}

// shortDir is a temporary directory whose name fits in a socket's address.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "st")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// each runs a test against an embedded and an external etcd.
func each(t *testing.T, f func(t *testing.T, cfg Config)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f(t, Config{Dir: t.TempDir(), NoFsync: true})
	})
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		f(t, Config{Endpoints: []string{externalEtcd(t)}})
	})
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func setData(value string) func(*Entry) (client.Object, error) {
	return func(cur *Entry) (client.Object, error) {
		cm := cur.Object.DeepCopyObject().(*corev1.ConfigMap)
		cm.Data = map[string]string{"v": value}
		return cm, nil
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)

		in := configMap("default", "a", "1")
		made := must(s.Create(ctx, configMaps, in))(t)
		if in.ResourceVersion != "" {
			t.Errorf("Create changed its argument's resourceVersion to %q", in.ResourceVersion)
		}
		got := made.Object.(*corev1.ConfigMap)
		if got.ResourceVersion != strconv.FormatInt(made.Revision, 10) || got.Kind != "ConfigMap" || got.APIVersion != "v1" || got.Data["v"] != "1" {
			t.Errorf("created %+v at revision %d", got, made.Revision)
		}
		if e := must(s.Get(ctx, configMaps, key("default", "a"), Any()))(t); e != made {
			t.Errorf("cache has %v after create of %v", e, made)
		}
		if _, err := s.Create(ctx, configMaps, in); !apierrors.IsAlreadyExists(err) {
			t.Errorf("second create: %v", err)
		}

		next := must(s.Update(ctx, configMaps, key("default", "a"), Preconditions{Revision: made.Revision}, setData("2")))(t)
		if next.Revision <= made.Revision || next.Object.(*corev1.ConfigMap).Data["v"] != "2" || got.Data["v"] != "1" {
			t.Errorf("updated %+v after %+v", next, made)
		}
		if _, err := s.Update(ctx, configMaps, key("default", "a"), Preconditions{Revision: made.Revision}, setData("3")); !apierrors.IsConflict(err) {
			t.Errorf("stale update: %v", err)
		}
		for name, change := range map[string]func(*Entry) (client.Object, error){
			"same object": func(cur *Entry) (client.Object, error) { return cur.Object, nil },
			"same value":  setData("2"),
		} {
			if e := must(s.Update(ctx, configMaps, key("default", "a"), Preconditions{}, change))(t); e != next {
				t.Errorf("%s wrote revision %d after %d", name, e.Revision, next.Revision)
			}
		}
		if _, err := s.Delete(ctx, configMaps, key("default", "a"), Preconditions{UID: "other"}, nil); !apierrors.IsConflict(err) {
			t.Errorf("delete of another UID: %v", err)
		}
		gone := must(s.Delete(ctx, configMaps, key("default", "a"), Preconditions{Revision: next.Revision}, nil))(t)
		if gone.Revision <= next.Revision || gone.Object.GetResourceVersion() != strconv.FormatInt(gone.Revision, 10) {
			t.Errorf("deleted at %d, object says %s", gone.Revision, gone.Object.GetResourceVersion())
		}
		for name, err := range map[string]error{
			"get":    second(s.Get(ctx, configMaps, key("default", "a"), Latest())),
			"update": second(s.Update(ctx, configMaps, key("default", "a"), Preconditions{}, setData("4"))),
			"delete": second(s.Delete(ctx, configMaps, key("default", "a"), Preconditions{}, nil)),
		} {
			if !apierrors.IsNotFound(err) {
				t.Errorf("%s of what is deleted: %v", name, err)
			}
		}
		if err := s.Healthy(ctx); err != nil {
			t.Error(err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	withRevision := configMap("default", "a", "")
	withRevision.ResourceVersion = "7"
	boom := fmt.Errorf("boom")
	must(s.Create(ctx, configMaps, configMap("default", "there", "")))(t)
	for _, c := range []struct {
		name string
		err  error
		want func(error) bool
	}{
		{"revision on create", second(s.Create(ctx, configMaps, withRevision)), func(err error) bool { return err == ErrRevisionOnCreate }},
		{"unknown kind", second(s.Create(ctx, cronTabs, cronTab("a", "b", nil))), apierrors.IsNotFound},
		{"no name", second(s.Create(ctx, configMaps, configMap("default", "", ""))), apierrors.IsBadRequest},
		{"no namespace", second(s.Create(ctx, configMaps, configMap("", "x", ""))), apierrors.IsBadRequest},
		{"slash", second(s.Create(ctx, configMaps, configMap("default", "x/y", ""))), apierrors.IsBadRequest},
		{"namespace on cluster kind", second(s.Get(ctx, nodes, key("default", "n"), Any())), apierrors.IsNotFound},
		{"delete with namespace on cluster kind", second(s.Delete(ctx, nodes, key("default", "n"), Preconditions{}, nil)), apierrors.IsBadRequest},
		{"rename", second(s.Update(ctx, configMaps, key("default", "there"), Preconditions{}, func(*Entry) (client.Object, error) {
			return configMap("default", "elsewhere", ""), nil
		})), apierrors.IsBadRequest},
		{"change fails", second(s.Update(ctx, configMaps, key("default", "there"), Preconditions{}, func(*Entry) (client.Object, error) {
			return nil, boom
		})), func(err error) bool { return err == boom }},
		{"check fails", second(s.Delete(ctx, configMaps, key("default", "there"), Preconditions{}, func(*Entry) error { return boom })), func(err error) bool { return err == boom }},
		{"too large", second(s.Create(ctx, configMaps, configMap("default", "large", strings.Repeat("x", 4<<20)))), apierrors.IsRequestEntityTooLargeError},
		{"future revision", second(s.Snapshot(ctx, configMaps, NotOlderThan(1<<40))), func(err error) bool {
			return apierrors.IsTimeout(err) && apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
		}},
		{"exact revision 0", second(s.Snapshot(ctx, configMaps, Exact(0))), apierrors.IsBadRequest},
		{"watch of old revision", second(s.Watch(ctx, configMaps, 0, Filter{})), func(err error) bool { return err == nil }},
	} {
		if !c.want(c.err) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

func TestKeysAndValuesAreUpstreams(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		if err := s.AddKind(ctx, cronTabKind()); err != nil {
			t.Fatal(err)
		}
		must(s.Create(ctx, pods, pod("ns", "p", "")))(t)
		must(s.Create(ctx, nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}))(t)
		must(s.Create(ctx, cronTabs, cronTab("ns", "c", map[string]any{"x": int64(1)})))(t)
		for k, prefix := range map[string]string{
			"/registry/pods/ns/p":                 "k8s\x00\n\x09\n\x02v1\x12\x03Pod",
			"/registry/minions/n":                 "k8s\x00\n\x0a\n\x02v1\x12\x04Node",
			"/registry/example.com/crontabs/ns/c": `{"apiVersion":"example.com/v1","kind":"CronTab","metadata":{`,
		} {
			resp, err := s.etcd.Get(ctx, k)
			if err != nil || len(resp.Kvs) != 1 {
				t.Fatalf("%s: %v, %v", k, resp, err)
			}
			v := string(resp.Kvs[0].Value)
			if !strings.HasPrefix(v, prefix) || strings.Contains(v, "resourceVersion") {
				t.Errorf("%s holds %q", k, v)
			}
		}
	})
}

func TestAddAndRemoveKind(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		// Someone stored one before the kind is known here.
		if _, err := s.etcd.Put(ctx, "/registry/example.com/crontabs/ns/old", `{"apiVersion":"example.com/v1","kind":"CronTab","metadata":{"namespace":"ns","name":"old"}}`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Snapshot(ctx, cronTabs, Latest()); !apierrors.IsNotFound(err) {
			t.Fatalf("unknown kind: %v", err)
		}
		if err := s.AddKind(ctx, cronTabKind()); err != nil {
			t.Fatal(err)
		}
		if err := s.AddKind(ctx, cronTabKind()); err == nil {
			t.Error("a kind was added twice")
		}
		snap := must(s.Snapshot(ctx, cronTabs, Latest()))(t)
		if _, ok := snap.Get(key("ns", "old")); !ok || snap.Len() != 1 {
			t.Errorf("%d objects, old found: %v", snap.Len(), ok)
		}
		c := must(s.Watch(ctx, cronTabs, snap.Revision(), Filter{}))(t)
		defer c.Close()
		made := must(s.Create(ctx, cronTabs, cronTab("ns", "new", nil)))(t)
		if ev := must(c.Next(ctx))(t); ev.Entry != made || ev.Type != client.Added {
			t.Errorf("event %+v", ev)
		}
		s.RemoveKind(cronTabs)
		if _, err := c.Next(ctx); !apierrors.IsResourceExpired(err) {
			t.Errorf("cursor of a removed kind: %v", err)
		}
		if _, err := s.Get(ctx, cronTabs, key("ns", "new"), Any()); !apierrors.IsNotFound(err) {
			t.Errorf("get of a removed kind: %v", err)
		}
		if err := s.AddKind(ctx, cronTabKind()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, cronTabs, key("ns", "new"), Any()); err != nil {
			t.Errorf("get of a kind added again: %v", err)
		}
	})
}

func TestUndecodableValue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		must(s.Create(ctx, configMaps, configMap("ns", "good", "1")))(t)
		if _, err := s.etcd.Put(ctx, "/registry/configmaps/ns/bad", "garbage"); err != nil {
			t.Fatal(err)
		}
		check := func(s *Store) {
			t.Helper()
			if _, err := s.Get(ctx, configMaps, key("ns", "bad"), Latest()); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "/registry/configmaps/ns/bad") {
				t.Errorf("get: %v", err)
			}
			if snap := must(s.Snapshot(ctx, configMaps, Latest()))(t); snap.Len() != 1 {
				t.Errorf("%d objects, want the good one", snap.Len())
			}
		}
		check(s)
		shut(t, s)
		s = open(t, cfg)
		check(s)
		if _, err := s.etcd.Delete(ctx, "/registry/configmaps/ns/bad"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, configMaps, key("ns", "bad"), Latest()); !apierrors.IsNotFound(err) {
			t.Errorf("get after the bad value is gone: %v", err)
		}
	})
}

func TestForeignWritesAreSeenByLatest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		for i := range 20 {
			// Outside of /registry/: only a progress notification tells.
			resp, err := s.etcd.Put(ctx, "/elsewhere", strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			snap := must(s.Snapshot(ctx, configMaps, Latest()))(t)
			if snap.Revision() < resp.Header.Revision {
				t.Fatalf("latest is %d after revision %d", snap.Revision(), resp.Header.Revision)
			}
		}
	})
}

func TestEventsExpire(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		cfg.TTL = map[client.Resource]time.Duration{events: time.Second}
		ctx := t.Context()
		s := open(t, cfg)
		c := must(s.Watch(ctx, events, 0, Filter{}))(t)
		defer c.Close()
		must(s.Create(ctx, events, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e"}}))(t)
		for _, want := range []client.EventType{client.Added, client.Deleted} {
			if ev := must(c.Next(ctx))(t); ev.Type != want || ev.Entry.Key.Name != "e" {
				t.Fatalf("%s %s, want %s", ev.Type, ev.Entry.Key, want)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	must(s.Create(t.Context(), pods, pod("ns", "p", "")))(t)
	found := map[string]bool{}
	families, err := s.tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		found[f.GetName()] = true
	}
	own, err := s.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range own {
		found["own "+f.GetName()] = true
	}
	for _, name := range []string{
		"etcd_request_duration_seconds", "etcd_requests_total", "apiserver_storage_objects", "apiserver_resource_objects",
		"apiserver_storage_size_bytes", "watch_cache_capacity", "apiserver_watch_cache_events_received_total",
		"own etcd_server_has_leader", "own etcd_disk_wal_fsync_duration_seconds", "own etcd_mvcc_db_total_size_in_bytes",
	} {
		if !found[name] {
			t.Errorf("no metric %s", name)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	recorded := tracetest.NewSpanRecorder()
	hub := telemetry.NewHub(telemetry.Config{Log: slog.DiscardHandler})
	hub.AddSpanProcessor(recorded)
	tel := hub.Component("store", "apiserver")
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), NoFsync: true}, testKinds(), tel)
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, s)
	ctx, parent := tel.Tracer.Start(t.Context(), "request")
	must(s.Create(ctx, pods, pod("ns", "p", "")))(t)
	must(s.Get(ctx, pods, key("ns", "p"), Latest()))(t)
	parent.End()
	var names []string
	for _, span := range recorded.Ended() {
		if span.Parent().SpanID() == parent.SpanContext().SpanID() {
			names = append(names, span.Name())
		}
	}
	if want := []string{"etcd.txn", "etcd.range"}; !slices.Equal(names, want) {
		t.Errorf("spans %v, want %v", names, want)
	}
}

func TestSnapshotOrderAndSelection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	for _, k := range []client.Key{key("a", "z"), key("a-b", "x"), key("a", "y"), key("b", "x"), key("a0", "x")} {
		p := pod(k.Namespace, k.Name, "n-"+k.Name)
		p.Labels = map[string]string{"ns": k.Namespace}
		must(s.Create(ctx, pods, p))(t)
	}
	snap := must(s.Snapshot(ctx, pods, Latest()))(t)
	for _, c := range []struct {
		name string
		got  iter.Seq[*Entry]
		want string
	}{
		{"all", snap.All(""), "a-b/x a/y a/z a0/x b/x"},
		{"namespace", snap.All("a"), "a/y a/z"},
		{"empty namespace", snap.All("c"), ""},
		{"after", snap.After("", key("a", "y")), "a/z a0/x b/x"},
		{"after in namespace", snap.After("a", key("a", "y")), "a/z"},
		{"after what is not there", snap.After("", key("a", "yy")), "a/z a0/x b/x"},
		{"after the end", snap.After("a", key("b", "x")), ""},
		{"name", snap.Select(Filter{Namespace: "a", Name: "y"}), "a/y"},
		{"name everywhere", snap.Select(Filter{Name: "x"}), "a-b/x a0/x b/x"},
		{"name field after", snap.SelectAfter(Filter{Fields: fields.OneTermEqualSelector("metadata.name", "x")}, key("a", "z")), "a0/x b/x"},
		{"node", snap.Select(Filter{Fields: fields.OneTermEqualSelector("spec.nodeName", "n-z")}), "a/z"},
		{"not the node", snap.Select(Filter{Namespace: "a", Fields: fields.OneTermNotEqualSelector("spec.nodeName", "n-z")}), "a/y"},
		{"labels", snap.Select(Filter{Labels: labels.SelectorFromSet(labels.Set{"ns": "a-b"})}), "a-b/x"},
		{"contradiction", snap.Select(Filter{Namespace: "a", Fields: fields.OneTermEqualSelector("metadata.namespace", "b")}), ""},
	} {
		var got []string
		for e := range c.got {
			got = append(got, e.Key.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// TestOpensQuietly holds that nothing is logged which nobody can act on.
func TestOpensQuietly(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	hub := telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})})
	dir := t.TempDir()
	for range 2 {
		s, err := Open(t.Context(), Config{Dir: dir}, testKinds(), hub.Component("store", "apiserver"))
		if err != nil {
			t.Fatal(err)
		}
		shut(t, s)
	}
	if out.Len() > 0 {
		t.Errorf("logged:\n%s", out.String())
	}
}
