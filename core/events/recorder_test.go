package events_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/telemetry"
)

func list(t *testing.T, c client.Client) []*corev1.Event {
	t.Helper()
	all, _, err := client.ListOf[*corev1.Event](t.Context(), c, client.ReadOptions{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Repetitions raise a count, other messages make other events.
func TestRecorder(t *testing.T) {
	s := apitest.Start(t)
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tel := telemetry.Discard()
	r := events.NewRecorder(events.Config{Component: "tester", Host: "n1", Now: func() time.Time { return now }}, s.Client, tel)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"}}
	for range 3 {
		r.Event(pod, corev1.EventTypeWarning, "BackOff", "Back-off restarting %s", "web")
	}
	r.Event(pod, corev1.EventTypeNormal, "Started", "Started web")
	eventually(t, func() error {
		all := list(t, s.Client)
		if len(all) != 2 {
			return fmt.Errorf("%d events, want 2", len(all))
		}
		for _, e := range all {
			switch e.Reason {
			case "BackOff":
				if e.Count != 3 || e.Message != "Back-off restarting web" || e.InvolvedObject.Kind != "Pod" || e.Source.Host != "n1" {
					return fmt.Errorf("event is %+v", e)
				}
			case "Started":
				if e.Message != "Started web" {
					return fmt.Errorf("message is %q", e.Message)
				}
			}
		}
		return nil
	})
	// A deleted event is made anew instead of lost.
	for _, e := range list(t, s.Client) {
		if err := client.Delete[*corev1.Event](t.Context(), s.Client, e.Namespace, e.Name, client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Second)
	r.Event(pod, corev1.EventTypeWarning, "BackOff", "Back-off restarting %s", "web")
	eventually(t, func() error {
		if n := len(list(t, s.Client)); n != 1 {
			return fmt.Errorf("%d events, want 1", n)
		}
		return nil
	})
}

// A full queue drops and counts; it never blocks.
func TestOverflowIsCounted(t *testing.T) {
	tel := telemetry.Discard()
	r := events.NewRecorder(events.Config{Component: "tester"}, nil, tel)
	events.NewRecorder(events.Config{Component: "tester"}, nil, tel) // shares the counter
	for range 1500 {
		r.EventRef(corev1.ObjectReference{Kind: "Pod", Name: "web"}, corev1.EventTypeNormal, "Many", "of them")
	}
	n, err := testutil.GatherAndCount(tel.Registry, "binnacle_events_dropped_total")
	if err != nil || n != 1 {
		t.Fatalf("%d series, %v; want 1", n, err)
	}
	families, err := tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if got := families[0].Metric[0].Counter.GetValue(); got != 500 {
		t.Errorf("%v were counted as dropped, want 500", got)
	}
}
