package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"binnacle.io/core/api"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/store"
)

// front is an API server that can be stopped and started again at one address.
type front struct {
	t       *testing.T
	s       *apitest.Server
	address string
	stop    func()
	n       int
}

func (f *front) start() {
	f.t.Helper()
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.address = l.Addr().String()
	f.n++
	srv, err := api.New(api.Config{Listener: l}, f.s.Store, f.s.Kinds, admin{}, auth.Masters(), f.s.Chain, f.s.Hub.Component(fmt.Sprintf("front%d", f.n), "front"))
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := srv.Run(ctx); err != nil && ctx.Err() == nil {
			f.t.Errorf("the server ended: %v", err)
		}
	})
	f.stop = func() {
		cancel()
		running.Wait()
	}
}

// spy counts what an informer asks, and refuses what refuse says.
type spy struct {
	http.RoundTripper
	refuse func(*http.Request) bool

	mu                         sync.Mutex
	lists, watchLists, refused int // guarded by mu
}

func (s *spy) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	s.mu.Lock()
	switch {
	case q.Get("sendInitialEvents") == "true":
		s.watchLists++
	case q.Get("watch") == "":
		s.lists++
	}
	refuse := s.refuse != nil && s.refuse(r)
	if refuse {
		s.refused++
	}
	s.mu.Unlock()
	if refuse {
		body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"sendInitialEvents: Forbidden"}`
		return &http.Response{StatusCode: 422, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	return s.RoundTripper.RoundTrip(r)
}

func (s *spy) count() (lists, watchLists, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists, s.watchLists, s.refused
}

// informer starts one on the ConfigMaps of a namespace.
func informer(t *testing.T, f *front, sp *spy, namespace string) cache.SharedIndexInformer {
	t.Helper()
	cfg := &rest.Config{Host: "http://" + f.address, ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}}
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		sp.RoundTripper = rt
		return sp
	})
	k, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	inf := informers.NewSharedInformerFactoryWithOptions(k, 0, informers.WithNamespace(namespace)).Core().V1().ConfigMaps().Informer()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { inf.RunWithContext(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
		t.Fatal("the informer does not sync")
	}
	return inf
}

// shows waits until the informer has exactly n objects.
func shows(t *testing.T, inf cache.SharedIndexInformer, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		changed := make(chan struct{}, 1)
		h, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { notify(changed) },
			DeleteFunc: func(any) { notify(changed) },
		})
		if err != nil {
			t.Fatal(err)
		}
		done := len(inf.GetStore().List()) == n
		if !done {
			select {
			case <-changed:
			case <-time.After(time.Second):
			}
		}
		if err := inf.RemoveEventHandler(h); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
	t.Fatalf("the informer shows %d objects, want %d", len(inf.GetStore().List()), n)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func makeMaps(t *testing.T, s *apitest.Server, namespace, prefix string, n int) {
	t.Helper()
	for i := range n {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%03d", prefix, i)}}
		if _, err := client.Create(t.Context(), s.Client, cm); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInformers: client-go's informers stream their first state (WatchList),
// list where that is refused, and outlive the server and its memory.
func TestInformers(t *testing.T) {
	s := apitest.Start(t, apitest.WithStore(func(c *store.Config) { c.RingEvents = 128 }))
	f := &front{t: t, s: s, address: "127.0.0.1:0"}
	f.start()
	defer func() { f.stop() }()
	const ns = "watched"
	if _, err := client.Create(t.Context(), s.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
		t.Fatal(err)
	}
	makeMaps(t, s, ns, "first", 30)

	streaming, listing := &spy{}, &spy{refuse: func(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") == "true" }}
	a, b := informer(t, f, streaming, ns), informer(t, f, listing, ns)
	shows(t, a, 30)
	shows(t, b, 30)
	if lists, watchLists, _ := streaming.count(); lists != 0 || watchLists == 0 {
		t.Errorf("the first state was not streamed: %d lists, %d streams", lists, watchLists)
	}
	if lists, _, refused := listing.count(); lists == 0 || refused == 0 {
		t.Errorf("no list where streams are refused: %d lists, %d refused", lists, refused)
	}
	makeMaps(t, s, ns, "second", 5)
	shows(t, a, 35)
	shows(t, b, 35)

	// The server goes, and comes back with nothing missed in its memory.
	f.stop()
	makeMaps(t, s, ns, "third", 5)
	if err := client.Delete[*corev1.ConfigMap](t.Context(), s.Client, ns, "first-000", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.start()
	shows(t, a, 39)
	shows(t, b, 39)

	// It goes again, and forgets where the informers were: 410, so they begin
	// anew.
	_, before, _ := streaming.count()
	f.stop()
	makeMaps(t, s, ns, "fourth", 200)
	if err := client.Delete[*corev1.ConfigMap](t.Context(), s.Client, ns, "first-001", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.start()
	shows(t, a, 238)
	shows(t, b, 238)
	if _, after, _ := streaming.count(); after <= before {
		t.Errorf("the informer went on from what was forgotten: %d streams before, %d after", before, after)
	}
	for _, inf := range []cache.SharedIndexInformer{a, b} {
		if _, there, err := inf.GetStore().GetByKey(ns + "/first-001"); err != nil || there {
			t.Errorf("what was deleted meanwhile is still shown: %v", err)
		}
	}
}
