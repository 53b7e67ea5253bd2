package telemetry

import (
	"context"
	"sync/atomic"
	"time"
)

// Part is a stretch of a request's time that is told apart from the rest.
type Part int

// The parts that code below the pipeline reports.
const (
	InAdmission Part = iota // plugins, webhooks and policies
	InStorage               // waiting for etcd, reads and writes
	parts
)

// Breakdown says where a request's time went. It is safe for concurrent use;
// the zero Breakdown is empty.
type Breakdown struct {
	spent [parts]atomic.Int64
}

// Of returns the time spent in a part.
func (b *Breakdown) Of(p Part) time.Duration { return time.Duration(b.spent[p].Load()) }

type breakdownKey struct{}

// WithBreakdown returns ctx through which Spent reaches b.
func WithBreakdown(ctx context.Context, b *Breakdown) context.Context {
	return context.WithValue(ctx, breakdownKey{}, b)
}

// Spent counts the time since start for the request that ctx belongs to, if it
// keeps a breakdown.
func Spent(ctx context.Context, p Part, start time.Time) {
	if b, ok := ctx.Value(breakdownKey{}).(*Breakdown); ok {
		b.spent[p].Add(int64(time.Since(start)))
	}
}
