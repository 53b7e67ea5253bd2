package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Sink takes the state of a resource. Calls do not overlap.
type Sink[T client.Object] struct {
	// Replace gets the whole state.
	Replace func(items []T)
	// Apply gets one change; for client.Deleted the last state.
	Apply func(e client.EventType, obj T)
}

// Follow feeds the sink until ctx ends. Failures are logged and retried after
// up to maxDelay.
func Follow[T client.Object](ctx context.Context, c client.Client, opts client.ReadOptions, tel *telemetry.Component, sink Sink[T]) {
	const minDelay, maxDelay = 100 * time.Millisecond, 10 * time.Second
	delay := minDelay
	var from string
	for ctx.Err() == nil {
		next, err := follow(ctx, c, opts, from, sink)
		if ctx.Err() != nil {
			return
		}
		if next != from {
			delay = minDelay // it went forward
		}
		from = next
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			from = ""
			continue
		}
		tel.Log.WarnContext(ctx, "cannot follow resource", "resource", fmt.Sprintf("%T", *new(T)), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(delay/2 + rand.N(delay/2+1)):
		}
		delay = min(2*delay, maxDelay)
	}
}

// follow lists unless from is given, then watches. It returns where to go on.
func follow[T client.Object](ctx context.Context, c client.Client, opts client.ReadOptions, from string, sink Sink[T]) (string, error) {
	if from == "" {
		items, revision, err := client.ListOf[T](ctx, c, opts)
		if err != nil {
			return from, err
		}
		sink.Replace(items)
		from = revision
	}
	w, err := client.WatchOf[T](ctx, c, from, opts)
	if err != nil {
		return from, err
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return from, err
		}
		if e.Type != client.Bookmark {
			obj, ok := e.Object.(T)
			if !ok {
				return "", fmt.Errorf("cannot use %T from a watch of %T", e.Object, obj)
			}
			sink.Apply(e.Type, obj)
		}
		if e.Revision != "" {
			from = e.Revision
		}
	}
}
