package probe

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Counter turns answers into verdicts.
type Counter struct {
	// Success and Failure are the thresholds, at least 1.
	Success, Failure int

	last Answer
	run  int
}

// Count takes one answer. It returns the verdict and true when as many equal
// answers came in a row as the threshold says.
func (c *Counter) Count(a Answer) (Answer, bool) {
	if a == Unknown {
		return Unknown, false
	}
	if a == c.last {
		c.run++
	} else {
		c.last, c.run = a, 1
	}
	if a == Failure && c.run < max(c.Failure, 1) || a == Success && c.run < max(c.Success, 1) {
		return Unknown, false
	}
	return a, true
}

// Report is one answer and what it means so far.
type Report struct {
	Answer Answer
	Text   string
	// Verdict is meaningful when Decided.
	Verdict Answer
	Decided bool
}

// Loop probes until ctx ends or report returns false: first after the initial
// delay since started and then every period.
func Loop(ctx context.Context, exec Execer, t Target, p *corev1.Probe, started time.Time, jitter time.Duration, report func(Report) bool) {
	c := Counter{Success: int(p.SuccessThreshold), Failure: int(p.FailureThreshold)}
	period := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	first := max(time.Until(started.Add(time.Duration(p.InitialDelaySeconds)*time.Second)), 0) + jitter
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(period)
		// One more try when a probe could not be made, as a transient error
		// of ours is no answer of the container's.
		answer, text := Once(ctx, exec, t, p)
		if answer == Unknown && ctx.Err() == nil {
			answer, text = Once(ctx, exec, t, p)
		}
		if ctx.Err() != nil {
			return
		}
		verdict, decided := c.Count(answer)
		if !report(Report{answer, text, verdict, decided}) {
			return
		}
	}
}
