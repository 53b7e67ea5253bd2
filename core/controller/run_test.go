package controller_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/telemetry"
)

var configMaps = client.Resource{Resource: "configmaps"}

// run runs one controller over a real API until the test ends.
func run(t *testing.T, s *apitest.Server, cfg controller.Config, c controller.Controller) {
	t.Helper()
	m := controller.New(cfg, s.Client, s.Hub.Component("controller-manager", "kube-controller-manager"))
	if err := m.Add(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("controllers ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s: not within 15 s", what)
}

// A failed reconciliation is tried again; a plan's writes continue the trace of
// the object that caused it and are seen by the next reconciliation.
func TestRetriesAndTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	hub := telemetry.NewHub(telemetry.Config{})
	hub.AddSpanProcessor(spans)
	s := apitest.Start(t, apitest.WithHub(hub))
	var tries, after atomic.Int32
	run(t, s, controller.Config{}, controller.Controller{
		Name: "copy", Account: "generic-garbage-collector", // may write everything
		Inputs: []controller.Input{{Resource: configMaps, Keys: controller.Self}},
		Reconcile: func(_ context.Context, st controller.State, key client.Key) (p controller.Plan, err error) {
			if key.Name != "origin" {
				return p, nil
			}
			if tries.Add(1) == 1 {
				return p, errors.New("not now")
			}
			cm, ok := controller.Get[*corev1.ConfigMap](st, key.Namespace, key.Name)
			if !ok || cm.Annotations["seen"] != "" {
				after.Add(1)
				return p, nil
			}
			next := cm.DeepCopy()
			next.Annotations = map[string]string{"seen": "yes"}
			p.Add(controller.Update(next))
			return p, nil
		},
	})
	if _, err := client.Create(t.Context(), s.Client, configMap("origin")); err != nil {
		t.Fatal(err)
	}
	wait(t, "the write is seen", func() bool { return after.Load() > 0 })
	if n := tries.Load(); n < 3 {
		t.Errorf("%d reconciliations, want a failed one, a writing one and one that finds nothing to do", n)
	}
	var create, reconcile sdktrace.ReadOnlySpan
	for _, span := range spans.Ended() {
		switch {
		case span.Name() == "create configmaps" && create == nil && hasAttribute(span, "k8s.object.name", "origin"):
			create = span
		case span.Name() == "reconcile copy":
			reconcile = span
		}
	}
	if create == nil || reconcile == nil {
		t.Fatal("the spans of the creation or of the reconciliation are missing")
	}
	if create.SpanContext().TraceID() != reconcile.SpanContext().TraceID() {
		t.Error("the reconciliation is not in the trace of the creation")
	}
}

// Of an object that went while a plan was made the plan's writes are dropped, and
// what follows them is done.
func TestGoneMeanwhile(t *testing.T) {
	s := apitest.Start(t)
	run(t, s, controller.Config{}, controller.Controller{
		Name: "late", Account: "root-ca-cert-publisher", Inputs: []controller.Input{{Resource: configMaps, Keys: controller.Self}}, Writes: []string{"configmaps"},
		Reconcile: func(_ context.Context, st controller.State, key client.Key) (p controller.Plan, err error) {
			if cm, ok := controller.Get[*corev1.ConfigMap](st, key.Namespace, key.Name); ok && cm.Name == "origin" {
				p.Add(controller.Update(configMap("gone")), controller.Create(configMap("after")))
			}
			return p, nil
		},
	})
	if _, err := client.Create(t.Context(), s.Client, configMap("origin")); err != nil {
		t.Fatal(err)
	}
	wait(t, "the rest of the plan is done", func() bool {
		_, err := client.Get[*corev1.ConfigMap](t.Context(), s.Client, "default", "after")
		return err == nil
	})
}

// A namespace that goes takes no new objects; that is no failure.
func TestTerminatingNamespace(t *testing.T) {
	s := apitest.Start(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going"}}
	if _, err := client.Create(t.Context(), s.Client, ns); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete[*corev1.Namespace](t.Context(), s.Client, "", "going", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	run(t, s, controller.Config{}, controller.Controller{
		Name: "busy", Account: "root-ca-cert-publisher", Inputs: []controller.Input{{Resource: configMaps, Keys: controller.Self}}, Writes: []string{"configmaps"},
		Reconcile: func(_ context.Context, st controller.State, key client.Key) (p controller.Plan, err error) {
			if key.Name == "origin" {
				p.Add(controller.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "going", Name: "x"}}),
					controller.Event(configMap("origin"), corev1.EventTypeNormal, "Between", "not at once with the next"), controller.Create(configMap("after")))
			}
			return p, nil
		},
	})
	if _, err := client.Create(t.Context(), s.Client, configMap("origin")); err != nil {
		t.Fatal(err)
	}
	wait(t, "the rest of the plan is done", func() bool {
		_, err := client.Get[*corev1.ConfigMap](t.Context(), s.Client, "default", "after")
		return err == nil
	})
}

// What a plan says about its failure is written.
func TestFailedPlans(t *testing.T) {
	s := apitest.Start(t)
	reported := make(chan controller.Outcome, 10)
	run(t, s, controller.Config{}, controller.Controller{
		Name: "failing", Account: "root-ca-cert-publisher", Inputs: []controller.Input{{Resource: configMaps, Keys: controller.Self}}, Writes: []string{"configmaps"},
		Reconcile: func(_ context.Context, st controller.State, key client.Key) (p controller.Plan, err error) {
			cm, ok := controller.Get[*corev1.ConfigMap](st, key.Namespace, key.Name)
			if !ok || cm.Name != "origin" || cm.Data["failed"] != "" {
				return p, nil
			}
			p.Add(controller.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "Not_A_Name"}}))
			p.Failed = func(a controller.Action, err error) []controller.Action {
				next := cm.DeepCopy()
				next.Data = map[string]string{"failed": a.Object.GetName() + ": " + err.Error()}
				return []controller.Action{controller.Update(next)}
			}
			p.Report = func(o controller.Outcome) { reported <- o }
			return p, nil
		},
	})
	if _, err := client.Create(t.Context(), s.Client, configMap("origin")); err != nil {
		t.Fatal(err)
	}
	wait(t, "the failure is written", func() bool {
		cm, err := client.Get[*corev1.ConfigMap](t.Context(), s.Client, "default", "origin")
		return err == nil && strings.HasPrefix(cm.Data["failed"], "Not_A_Name: ") && strings.Contains(cm.Data["failed"], "metadata.name")
	})
	if o := <-reported; o.Err == nil || len(o.Done) != 1 || o.Done[0].Op != controller.OpUpdate || o.Took <= 0 {
		t.Errorf("reported %+v, want the failure and the update made of it", o)
	}
}

func hasAttribute(s sdktrace.ReadOnlySpan, key, value string) bool {
	for _, kv := range s.Attributes() {
		if string(kv.Key) == key && kv.Value.AsString() == value {
			return true
		}
	}
	return false
}

// Two controllers cannot write one output.
func TestOneWriter(t *testing.T) {
	s := apitest.Start(t)
	m := controller.New(controller.Config{}, s.Client, telemetry.Discard())
	if err := m.Add(controller.Controller{Name: "a", Writes: []string{"pods/status"}}); err != nil {
		t.Fatal(err)
	}
	err := m.Add(controller.Controller{Name: "b", Writes: []string{"pods/status"}})
	if err == nil || !strings.Contains(err.Error(), `its output pods/status is written by controller "a"`) {
		t.Errorf("error is %v", err)
	}
}

// Of two processes one leads; when it ends, the other takes over at once
// because the lease was given back.
func TestLeadership(t *testing.T) {
	s := apitest.Start(t)
	var leads [2]atomic.Bool
	start := func(i int, identity string) (stop func()) {
		m := controller.New(controller.Config{Identity: identity}, s.Client, telemetry.Discard())
		if err := m.Add(controller.Controller{
			Name:   "watcher",
			Inputs: []controller.Input{{Resource: client.Resource{Resource: "namespaces"}, Keys: controller.Self}},
			Reconcile: func(context.Context, controller.State, client.Key) (controller.Plan, error) {
				leads[i].Store(true)
				return controller.Plan{}, nil
			},
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stopFirst := start(0, "first")
	wait(t, "the first leads", leads[0].Load)
	stopSecond := start(1, "second")
	defer stopSecond()
	if leads[1].Load() {
		t.Error("two lead at once")
	}
	stopFirst()
	wait(t, "the second leads", leads[1].Load)
}
