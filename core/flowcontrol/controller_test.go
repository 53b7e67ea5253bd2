package flowcontrol

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/auth"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

func controller(t testing.TB, cfg Config) *Controller {
	t.Helper()
	c, err := New(cfg, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	c.configure(append(kind.MandatoryFlowSchemas(), suggestedSchemas()...), append(kind.MandatoryPriorityLevels(), suggestedLevels()...))
	return c
}

func by(user string, groups ...string) *auth.User {
	return auth.Authenticated(&auth.User{Name: user, Groups: groups})
}

func resource(u *auth.User, verb, group, res, namespace, name string) Request {
	sub := ""
	if i := strings.IndexByte(res, '/'); i >= 0 {
		res, sub = res[:i], res[i+1:]
	}
	return Request{MaxWait: time.Second, Attributes: auth.Attributes{
		User: u, Verb: verb, Group: group, Version: "v1", Resource: res, Subresource: sub, Namespace: namespace, Name: name,
	}}
}

func TestClassify(t *testing.T) {
	c := controller(t, Config{})
	node := by("system:node:n", auth.GroupNodes)
	account := func(ns, name string) *auth.User {
		return by(auth.ServiceAccountName(ns, name), auth.GroupServiceAccounts, auth.GroupServiceAccounts+":"+ns)
	}
	path := func(u *auth.User, p string) Request {
		return Request{Attributes: auth.Attributes{User: u, Verb: "get", Path: p}}
	}
	for _, x := range []struct {
		r                   Request
		schema, level, flow string
	}{
		{resource(by("root", auth.GroupMasters), "list", "", "pods", "", ""), "exempt", "exempt", ""},
		{resource(node, "update", "coordination.k8s.io", "leases", "kube-node-lease", "n"), "system-node-high", "node-high", "system:node:n"},
		{resource(node, "patch", "", "nodes/status", "", "n"), "system-node-high", "node-high", "system:node:n"},
		{resource(node, "get", "", "nodes/proxy", "", "n"), "system-nodes", "system", "system:node:n"},
		{resource(node, "list", "", "pods", "", ""), "system-nodes", "system", "system:node:n"},
		{path(node, "/version"), "system-nodes", "system", "system:node:n"},
		{path(by("x"), "/healthz"), "probes", "exempt", ""},
		{path(by("x"), "/livez/ping"), "probes", "exempt", ""},
		{path(by("x"), "/healthzz"), "global-default", "global-default", "x"},
		{resource(by("system:kube-scheduler"), "update", "coordination.k8s.io", "leases", "kube-system", "l"), "system-leader-election", "leader-election", "system:kube-scheduler"},
		{resource(by("system:kube-scheduler"), "delete", "coordination.k8s.io", "leases", "kube-system", "l"), "kube-scheduler", "workload-high", "kube-system"},
		{resource(account("kube-system", "a"), "list", "", "pods", "n", ""), "kube-system-service-accounts", "workload-high", "n"},
		{resource(account("kube-system", "a"), "get", "coordination.k8s.io", "leases", "n", "l"), "system-leader-election", "leader-election", "system:serviceaccount:kube-system:a"},
		{resource(account("kube-system-not", "a"), "list", "", "pods", "n", ""), "service-accounts", "workload-low", "system:serviceaccount:kube-system-not:a"},
		{resource(by("jane"), "get", "", "pods", "n", "p"), "global-default", "global-default", "jane"},
		{resource(&auth.User{Name: "nobody"}, "get", "", "pods", "n", "p"), "catch-all", "catch-all", "nobody"},
	} {
		tk, err := c.Begin(t.Context(), x.r)
		if err != nil {
			t.Fatal(err)
		}
		if tk.Schema != x.schema || tk.Level != x.level || tk.Flow != x.flow {
			t.Errorf("%+v: %+v, want %s %s %q", x.r.Attributes, tk.Decision, x.schema, x.level, x.flow)
		}
		tk.Close()
	}
}

func TestNominalSeats(t *testing.T) {
	c := controller(t, Config{})
	// What upstream's apiserver_flowcontrol_nominal_limit_seats are with its
	// defaults.
	want := map[string]int{"catch-all": 13, "exempt": 0, "global-default": 49, "leader-election": 25, "node-high": 98, "system": 74, "workload-high": 98, "workload-low": 245}
	for name, l := range c.table.Load().levels {
		if l.share.nominal != want[name] {
			t.Errorf("%s: %d seats, want %d", name, l.share.nominal, want[name])
		}
	}
}

func TestEstimate(t *testing.T) {
	stored := map[string]int64{"pods": 5000, "nodes": 90}
	objects := func(r schema.GroupResource) (int64, bool) { n, ok := stored[r.Resource]; return n, ok }
	w := &watchers{count: map[watched]int{}}
	jane := by("jane")
	for i := range 60 {
		r := resource(jane, "watch", "", "pods", []string{"", "a", "b"}[i%3], "")
		w.add(&r)
	}
	index := resource(jane, "watch", "", "pods", "", "")
	index.RawQuery = "fieldSelector=spec.nodeName%3Dn"
	if w.add(&index) != nil {
		t.Error("a watch of one node's pods is told of them only")
	}
	query := func(r Request, q string) Request { r.RawQuery = q; return r }
	for _, x := range []struct {
		r    Request
		want work
	}{
		{resource(jane, "get", "", "pods", "a", "p"), work{seats: 1}},
		{resource(jane, "list", "", "pods", "", ""), work{seats: 10}},
		{resource(jane, "list", "", "pods", "", "one"), work{seats: 1}},
		{query(resource(jane, "list", "", "pods", "", ""), "limit=500"), work{seats: 5}},
		{query(resource(jane, "list", "", "pods", "", ""), "limit=500&labelSelector=a%3Db"), work{seats: 10}},
		{resource(jane, "list", "", "nodes", "", ""), work{seats: 1}},
		{resource(jane, "list", "x.io", "unknown", "", ""), work{seats: 1}},
		{query(resource(jane, "watch", "", "pods", "", ""), "resourceVersion=12"), work{seats: 1}},
		{query(resource(jane, "watch", "", "pods", "", ""), "resourceVersion=12&sendInitialEvents=true"), work{seats: 10}},
		{resource(jane, "watch", "", "pods", "", ""), work{seats: 10}},
		{resource(jane, "create", "", "pods", "a", ""), work{seats: 1, finalSeats: 4, extra: 5 * time.Millisecond}},
		{resource(jane, "create", "", "pods", "c", ""), work{seats: 1, finalSeats: 2, extra: 5 * time.Millisecond}},
		{resource(jane, "create", "", "configmaps", "a", ""), work{seats: 1}},
	} {
		if got := estimate(&x.r, 10, objects, w); got != x.want {
			t.Errorf("%s %s %q: %+v, want %+v", x.r.Verb, x.r.Resource, x.r.RawQuery, got, x.want)
		}
	}
	if got := estimate(&Request{Attributes: resource(jane, "create", "", "pods", "a", "").Attributes}, 2, objects, w); got.finalSeats != 2 || got.extra != 10*time.Millisecond {
		t.Errorf("made narrower: %+v", got)
	}
}

// TestQueueAndRefuse: seats, a queue that fills up, one who is patient and one
// who is not.
func TestQueueAndRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(t, Config{Seats: 100}) // global-default: 9 nominal
		l := c.table.Load().levels["global-default"]
		r := resource(by("jane"), "get", "", "pods", "n", "p")
		r.MaxWait = 15 * time.Second
		var held []*Ticket
		for range l.class.limit {
			tk, err := c.Begin(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, tk)
		}
		var served, refused atomic.Int32
		var wg sync.WaitGroup
		// Six queues of fifty are jane's hand.
		for range 6*50 + 10 {
			wg.Go(func() {
				tk, err := c.Begin(context.Background(), r)
				switch {
				case err == nil:
					served.Add(1)
					tk.End()
				case tk.Refused == reasonFull && apierrors.IsTooManyRequests(err):
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := refused.Load(); n != 10 || served.Load() != 0 {
			t.Errorf("%d refused, %d served, want 10 and none", n, served.Load())
		}
		impatient := r
		impatient.User = by("joe")
		impatient.MaxWait = time.Second
		start := time.Now()
		if tk, err := c.Begin(t.Context(), impatient); err == nil || tk.Refused != reasonTimeout || tk.Queue < 0 || time.Since(start) != time.Second {
			t.Errorf("after %v: %+v %v", time.Since(start), tk.Decision, err)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if tk, err := c.Begin(gone, impatient); err == nil || tk.Refused != reasonCancelled {
			t.Errorf("gone: %+v", tk.Decision)
		}
		for _, tk := range held {
			tk.End()
			tk.End()
		}
		wg.Wait()
		if served.Load() != 300 || !l.class.isIdle() || l.running.next != nil {
			t.Errorf("%d served; %+v", served.Load(), &l.class)
		}
	})
}

// TestNoisyNeighbour: one client sends a hundred at once; another waits no
// longer than it takes the ones that run to end.
func TestNoisyNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(t, Config{Seats: 60})
		noisy, quiet := resource(by("noisy"), "get", "", "pods", "n", "p"), resource(by("quiet"), "get", "", "pods", "n", "p")
		noisy.MaxWait, quiet.MaxWait = time.Minute, time.Minute
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if tk, err := c.Begin(context.Background(), noisy); err == nil {
					time.Sleep(100 * time.Millisecond)
					tk.End()
				}
			})
		}
		synctest.Wait()
		for range 5 {
			start := time.Now()
			tk, err := c.Begin(t.Context(), quiet)
			if err != nil {
				t.Fatal(err)
			}
			tk.End()
			if waited := time.Since(start); waited > 400*time.Millisecond {
				t.Errorf("waited %v", waited)
			}
		}
		wg.Wait()
	})
}

// TestBorrowing: a level that waits gets the seats of those that idle, and the
// others get theirs back when they want them.
func TestBorrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(t, Config{})
		levels := c.table.Load().levels
		high := levels["workload-high"].class.limit
		var wg sync.WaitGroup
		r := resource(by("jane"), "get", "", "pods", "n", "p")
		r.MaxWait = time.Minute
		for range 250 {
			wg.Go(func() {
				if tk, err := c.Begin(context.Background(), r); err == nil {
					time.Sleep(25 * time.Second)
					tk.End()
				}
			})
		}
		synctest.Wait()
		before := levels["global-default"].class.limit
		time.Sleep(borrowEvery)
		c.tick()
		if got := levels["global-default"].class.limit; got <= before || got < 200 {
			t.Errorf("global-default has %d seats, had %d", got, before)
		}
		if got := levels["workload-high"].class.limit; got >= high || got < 49 {
			t.Errorf("workload-high has %d of %d", got, high)
		}
		wg.Wait()
	})
}

func TestReconfigure(t *testing.T) {
	c := controller(t, Config{})
	r := resource(by("jane"), "get", "", "pods", "n", "p")
	tk, err := c.Begin(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	// The level goes while a request runs in it.
	c.configure(kind.MandatoryFlowSchemas(), kind.MandatoryPriorityLevels())
	if l := c.table.Load().levels["global-default"]; l == nil || !l.quiescing {
		t.Error("a level with a request in it must be kept")
	}
	next, err := c.Begin(t.Context(), r)
	if err != nil || next.Schema != "catch-all" {
		t.Errorf("%+v %v", next.Decision, err)
	}
	next.End()
	if c.tick() {
		t.Error("drained while a request runs")
	}
	tk.End()
	if !c.tick() {
		t.Error("not drained")
	}
	c.configure(nil, nil)
	if n := len(c.table.Load().levels); n != 2 {
		t.Errorf("%d levels left", n)
	}
	// What leads nowhere and what is broken is not used.
	broken := limited("broken", 10, 0, &flowcontrolv1.QueuingConfiguration{Queues: 2, HandSize: 9, QueueLengthLimit: 1})
	c.configure([]*flowcontrolv1.FlowSchema{
		flowSchemaOf("a", "nowhere", 50, "", everything(users("jane"))), flowSchemaOf("b", "broken", 51, "", everything(users("jane"))),
	}, []*flowcontrolv1.PriorityLevelConfiguration{broken})
	if next, err = c.Begin(t.Context(), r); err != nil || next.Schema != "catch-all" {
		t.Errorf("%+v %v", next.Decision, err)
	}
	next.End()
}

func TestDump(t *testing.T) {
	c := controller(t, Config{})
	tk, err := c.Begin(t.Context(), resource(by("jane"), "get", "apps", "deployments/scale", "n", "d"))
	if err != nil {
		t.Fatal(err)
	}
	defer tk.End()
	for name, want := range map[string]string{
		DumpLevels:   "global-default,    0,            false,  false,       0,               1,                 1,                  0,                0,                0",
		DumpQueues:   "global-default,    127,    0,               0,                 0,          0.00000000ss,  0,               0,           0.00000000ss",
		DumpRequests: "jane,     get,    ,        n,         d,      apps/v1,    deployments, scale",
	} {
		var b bytes.Buffer
		if ok, err := c.Dump(&b, name, true); !ok || err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %v %v\n%s", name, ok, err, b.String())
		}
	}
	if ok, _ := c.Dump(&bytes.Buffer{}, "dump_nothing", false); ok {
		t.Error("there is no such dump")
	}
}

func TestStatusLog(t *testing.T) {
	var s statusLog
	now := time.Now()
	for i := range 6 {
		if !s.allow("a", now.Add(time.Duration(i)*time.Second)) {
			t.Fatalf("write %d refused", i)
		}
	}
	if s.allow("a", now.Add(10*time.Second)) || !s.allow("b", now) || !s.allow("a", now.Add(2*time.Minute)) {
		t.Error("six writes a minute and schema")
	}
}

// TestCost keeps the price of a request that does not wait.
func TestCost(t *testing.T) {
	c := controller(t, Config{})
	r := resource(by("jane"), "get", "", "pods", "n", "p")
	h := http.Header{}
	allocs := testing.AllocsPerRun(1000, func() {
		tk, err := c.Begin(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		tk.Headers(h)
		tk.End()
	})
	if allocs > 2 {
		t.Errorf("%v allocations", allocs)
	}
	if h.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID) != "" || len(h.Values(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID)) != 1 {
		t.Errorf("headers %v", h)
	}
}

func BenchmarkBegin(b *testing.B) {
	c := controller(b, Config{})
	for _, x := range []struct {
		name string
		r    Request
	}{
		{"exempt", resource(by("root", auth.GroupMasters), "get", "", "pods", "n", "p")},
		{"node", resource(by("system:node:n", auth.GroupNodes), "update", "coordination.k8s.io", "leases", "kube-node-lease", "n")},
		{"user", resource(by("jane"), "get", "", "pods", "n", "p")},
	} {
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("who=%s/parallel=%v", x.name, parallel), func(b *testing.B) {
				b.ReportAllocs()
				one := func() {
					tk, err := c.Begin(context.Background(), x.r)
					if err == nil {
						tk.End()
					}
				}
				if parallel {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							one()
						}
					})
					return
				}
				for b.Loop() {
					one()
				}
			})
		}
	}
}
