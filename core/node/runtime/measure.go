package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"
)

// reconnect is quick: the socket is local, and every pod waits for it.
var reconnect = backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}

// ErrExecTimeout is the error of a command that ran longer than allowed.
var ErrExecTimeout = errors.New("timed out")

// operations are the kubelet_runtime_operations_* metrics.
type operations struct {
	total, errors *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
}

func newOperations(reg prometheus.Registerer) *operations {
	labels := []string{"operation_type"}
	o := &operations{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_runtime_operations_total", Help: "Cumulative number of runtime operations by operation type."}, labels),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_runtime_operations_errors_total", Help: "Cumulative number of runtime operation errors by operation type."}, labels),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_runtime_operations_duration_seconds", Help: "Duration in seconds of runtime operations. Broken down by operation type.",
			Buckets: prometheus.ExponentialBuckets(.005, 2.5, 14)}, labels),
	}
	reg.MustRegister(o.total, o.errors, o.seconds)
	return o
}

// call makes one measured CRI call. It waits for the socket to come up, so a
// restart of the runtime delays calls and does not fail them; ctx bounds it.
func call[Req, Resp any](ctx context.Context, c *CRI, op string, f func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) (Resp, error) {
	start := time.Now()
	c.ops.total.WithLabelValues(op).Inc()
	resp, err := f(ctx, req, grpc.WaitForReady(true))
	c.ops.seconds.WithLabelValues(op).Observe(time.Since(start).Seconds())
	if err != nil {
		c.ops.errors.WithLabelValues(op).Inc()
	}
	return resp, err
}

// unwrapStatus finds the gRPC status error in a chain.
func unwrapStatus(err error) error {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Err()
	}
	return err
}
