package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// view is what the demo looks at.
type view struct {
	frontend    struct{ desired, ready int32 }
	hpaDesired  int32
	utilisation int32 // percent of the request; -1 when not measured yet
	// rested is how long it has been at rest, measured and below its target.
	rested time.Duration
}

// atRest is what the guestbook asks for and the autoscaler's least.
func (v view) atRest() bool {
	return v.frontend.desired == 3 && v.frontend.ready == 3 && v.hpaDesired == 3
}

// rescale is one decision of the autoscaler.
type rescale struct {
	at       time.Time
	from, to int32
}

// scene looks at the front end and its autoscaler, and tells of every change.
type scene struct {
	c    *cluster
	line *timeline

	mu       sync.Mutex
	last     view
	err      error
	restless time.Time // when it was last not at rest
	rescales []rescale
	looked   chan struct{} // closed and replaced after each look
}

func newScene(c *cluster, line *timeline) *scene {
	return &scene{c: c, line: line, last: view{utilisation: -1}, looked: make(chan struct{}), restless: time.Now()}
}

const interval = 200 * time.Millisecond

// watch looks until ctx ends.
func (s *scene) watch(ctx context.Context) error {
	told := map[string]int32{} // how often, by the event's name
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		v, events, err := s.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.wake()
			s.mu.Unlock()
			return nil // until says it
		}
		s.tell(v)
		for _, e := range events {
			if told[e.Name] != e.Count {
				told[e.Name] = e.Count
				s.line.say("HPA", "%s: %s", e.Reason, e.Message)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *scene) look(ctx context.Context) (view, []corev1.Event, error) {
	v := view{utilisation: -1}
	d, err := s.c.api.AppsV1().Deployments(namespace).Get(ctx, "frontend", metav1.GetOptions{})
	if err != nil {
		return v, nil, err
	}
	v.frontend.desired, v.frontend.ready = *d.Spec.Replicas, d.Status.ReadyReplicas
	h, err := s.c.api.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, "frontend", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return v, nil, nil // the apply of the autoscaler is on its way
	}
	if err != nil {
		return v, nil, err
	}
	v.hpaDesired = h.Status.DesiredReplicas
	for _, m := range h.Status.CurrentMetrics {
		if m.Resource != nil && m.Resource.Current.AverageUtilization != nil {
			v.utilisation = *m.Resource.Current.AverageUtilization
		}
	}
	list, err := s.c.api.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "reason=SuccessfulRescale,involvedObject.kind=HorizontalPodAutoscaler",
	})
	if err != nil {
		return v, nil, err
	}
	return v, list.Items, nil
}

// tell prints what is new. Utilisation alone changes every second and is told
// with the rest.
func (s *scene) tell(v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.last
	if !v.atRest() || v.utilisation < 0 || v.utilisation >= target {
		s.restless = time.Now()
	}
	v.rested = time.Since(s.restless)
	s.last = v
	if old.frontend != v.frontend {
		use := ""
		if v.utilisation >= 0 {
			use = fmt.Sprintf(", CPU %d%% of requests, target %d%%", v.utilisation, target)
		}
		s.line.say("front end", "%d of %d replicas ready%s", v.frontend.ready, v.frontend.desired, use)
	}
	if old.hpaDesired != v.hpaDesired && old.hpaDesired > 0 {
		s.rescales = append(s.rescales, rescale{time.Now(), old.hpaDesired, v.hpaDesired})
	}
	s.wake()
}

// wake lets until look again; mu is held.
func (s *scene) wake() {
	close(s.looked)
	s.looked = make(chan struct{})
}

// until waits until the view is as wanted.
func (s *scene) until(ctx context.Context, within time.Duration, what string, ok func(view) bool) error {
	late := time.After(within)
	for {
		s.mu.Lock()
		v, err, looked := s.last, s.err, s.looked
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("cannot see whether %s: %w", what, err)
		}
		if ok(v) {
			return nil
		}
		select {
		case <-looked:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("not within %v: %s; it is %d of %d replicas, CPU %d%%", within, what, v.frontend.ready, v.frontend.desired, v.utilisation)
		}
	}
}

// scaledAfter is when the autoscaler first changed its mind after t.
func (s *scene) scaledAfter(t time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rescales {
		if r.at.After(t) {
			return r.at, true
		}
	}
	return time.Time{}, false
}

// lastScaled is when the autoscaler last changed its mind.
func (s *scene) lastScaled() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rescales) == 0 {
		return time.Time{}, false
	}
	return s.rescales[len(s.rescales)-1].at, true
}
