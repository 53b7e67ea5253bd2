package alerting

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/notify"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"binnacle.io/alerting/queue"
	"binnacle.io/core/telemetry"
)

// deliverer works off the queue of one integration of a receiver.
type deliverer struct {
	destination string
	integration notify.Integration
	notifier    notify.Notifier
	store       *queue.Store
	metrics     *metrics
	notify      *notify.Metrics
	tel         *telemetry.Component
	timeout     time.Duration
	maxRetry    time.Duration
	now         func() time.Time
}

// Parts a notifier may have beyond Alertmanager's interface.
type (
	// readier knows how long the receiver wants to be left alone.
	readier interface{ Ready() time.Duration }
	// waiter is an error that says when to try again.
	waiter interface{ RetryAfter() time.Duration }
)

// outcome is what an attempt came to.
type outcome struct {
	err   error
	retry bool
}

// once lets Alertmanager's retry stage count and time exactly one attempt, and
// keeps what the notifier said.
type once struct {
	notify.Notifier
	out outcome
}

func (o *once) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	o.out.retry, o.out.err = o.Notifier.Notify(ctx, alerts...)
	return false, o.out.err
}

// patience is how often in a row a group's notification may fail before other
// groups go first: the fault may lie in it and not in the receiver.
const patience = 3

// trouble is what is remembered of a group whose notification failed.
type trouble struct {
	failures int // in a row
	last     time.Time
}

// troubles ranks groups for the queue.
type troubles map[string]trouble

func (t troubles) rank(group string) int64 {
	if g := t[group]; g.failures >= patience {
		return g.last.UnixNano() // in turn
	}
	return 0
}

func (t troubles) failed(group string, now time.Time) {
	t[group] = trouble{t[group].failures + 1, now}
}

// succeeded gives every group another try: the receiver may have been down.
func (t troubles) succeeded(group string) {
	delete(t, group)
	for g, tr := range t {
		t[g] = trouble{min(tr.failures, patience-1), tr.last}
	}
}

// run delivers until ctx ends.
func (d *deliverer) run(ctx context.Context) {
	failures := 0 // in a row, of any group
	groups := troubles{}
	for ctx.Err() == nil {
		e, changed, ok, err := d.store.Next(d.destination, groups.rank)
		switch {
		case err != nil:
			d.tel.Log.Error("cannot read notification queue", "destination", d.destination, "err", err)
			wait(ctx, d.maxRetry, nil)
			continue
		case !ok:
			clear(groups)
			wait(ctx, -1, changed)
			continue
		}
		if r, ok := d.notifier.(readier); ok {
			if pause := r.Ready(); pause > 0 {
				wait(ctx, pause, nil)
				continue
			}
		}
		out := d.attempt(ctx, e)
		if ctx.Err() != nil && out.err != nil {
			return // stopped half way; the item stays
		}
		if out.err != nil && out.retry {
			failures++
			groups.failed(e.Group, d.now())
			// A new notification is tried at once, unless a pause was asked for.
			wait(ctx, d.pause(ctx, failures, out.err), changedUnless(out.err, changed))
			continue
		}
		if err := d.store.Done(d.destination, e.ID); err != nil {
			d.tel.Log.Error("cannot take delivered notification from its queue", "destination", d.destination, "err", err)
			wait(ctx, d.maxRetry, nil)
			continue
		}
		if failures > 0 {
			d.tel.Log.Info("receiver answers again", "destination", d.destination, "failures", failures)
		}
		failures = 0
		groups.succeeded(e.Group)
		if out.err != nil {
			d.metrics.dropped.WithLabelValues(d.destination, dropRefused).Inc()
			d.tel.Log.Error("notification lost: receiver refused it", "destination", d.destination, "err", out.err)
			continue
		}
		d.metrics.delivered.WithLabelValues(d.destination).Inc()
		d.metrics.delay.Observe(d.now().Sub(e.Enqueued).Seconds())
	}
}

// pause counts and logs a failure that will be tried again, and returns after how long.
func (d *deliverer) pause(ctx context.Context, failures int, err error) time.Duration {
	d.metrics.retried.WithLabelValues(d.destination).Inc()
	pause := backoff(failures, d.maxRetry, rand.Float64())
	if w := waiter(nil); errors.As(err, &w) {
		pause = w.RetryAfter()
	}
	level := slog.LevelDebug
	if failures == 1 {
		level = slog.LevelWarn
	}
	d.tel.Log.Log(ctx, level, "notification failed, will try again",
		"destination", d.destination, "failures", failures, "again_in", pause, "err", err)
	return pause
}

func changedUnless(err error, changed <-chan struct{}) <-chan struct{} {
	if w := waiter(nil); errors.As(err, &w) {
		return nil
	}
	return changed
}

// backoff doubles from firstRetry up to most, give or take a quarter.
func backoff(failures int, most time.Duration, random float64) time.Duration {
	d := firstRetry << min(failures-1, 20)
	if d > most {
		d = most
	}
	return time.Duration(float64(d) * (0.75 + random/2))
}

// wait returns after d (never, when negative), when changed closes, or when ctx ends.
func wait(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	var expired <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-ctx.Done():
	case <-expired:
	case <-changed:
	}
}

func (d *deliverer) attempt(ctx context.Context, e queue.Entry) (out outcome) {
	var n notification
	if err := json.Unmarshal(e.Body, &n); err != nil {
		return outcome{err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	ctx, span := d.tel.Tracer.Start(ctx, "notify "+d.integration.Name(), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("binnacle.alerting.receiver", n.Receiver),
			attribute.String("binnacle.alerting.group", n.GroupKey),
			attribute.Int("binnacle.alerting.alerts", len(n.Alerts)),
		))
	defer func() { telemetry.End(span, out.err) }()

	single := &once{Notifier: d.notifier}
	stage := notify.NewRetryStage(
		notify.NewIntegration(single, &d.integration, d.integration.Name(), d.integration.Index(), n.Receiver),
		n.Receiver, d.notify, eventrecorder.NopRecorder())
	ctx, alerts := n.restore(ctx)
	_, _, err := stage.Exec(ctx, d.tel.Log, alerts...)
	out = single.out
	if out.err == nil {
		out.err = err // the stage itself failed
		out.retry = err != nil
	}
	// A receiver that is asked too often may take it later.
	var reason *notify.ErrorWithReason
	if errors.As(out.err, &reason) && reason.Reason == notify.RateLimitedReason {
		out.retry = true
	}
	return out
}
