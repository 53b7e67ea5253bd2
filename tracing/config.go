package tracing

import (
	"fmt"
	"time"
)

// Config is what users may choose about tracing. The zero value of a field
// means its default.
type Config struct {
	// DataDir is where sealed segments are kept, in the folder "traces".
	// Empty keeps spans in memory only.
	DataDir string
	// MaxBytes bounds the memory of the stored spans. Default 64 MiB.
	MaxBytes int64
	// MaxAge is how long a span is kept. Default 6 h.
	MaxAge time.Duration
	// GRPCAddress and HTTPAddress are the listen addresses of the OTLP
	// receivers ("127.0.0.1:4317", "127.0.0.1:4318"). Empty disables one.
	GRPCAddress, HTTPAddress string
	// MaxRequestBytes bounds one OTLP request after decompression. Default 4 MiB.
	MaxRequestBytes int64
	// MaxRequests bounds OTLP requests handled at once; more are told to
	// come again. Default 32.
	MaxRequests int
	// QueueSpans is how many own spans may wait for the store. Default 8192.
	QueueSpans int
	// SegmentAge is the longest time spans stay in the unsealed segment, and
	// so the most that a crash loses. Default 5 min.
	SegmentAge time.Duration
}

func (c Config) withDefaults() (Config, error) {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.MaxBytes, 64<<20)
	set(&c.MaxRequestBytes, 4<<20)
	set((*int64)(&c.MaxAge), int64(6*time.Hour))
	set((*int64)(&c.SegmentAge), int64(5*time.Minute))
	if c.MaxRequests == 0 {
		c.MaxRequests = 32
	}
	if c.QueueSpans == 0 {
		c.QueueSpans = 8192
	}
	switch {
	case c.MaxBytes < 64<<10:
		return c, fmt.Errorf("cannot use tracing MaxBytes %d: the smallest store is %d bytes", c.MaxBytes, 64<<10)
	case c.MaxAge < 0 || c.SegmentAge < 0:
		return c, fmt.Errorf("cannot use negative tracing ages (MaxAge %s, SegmentAge %s)", c.MaxAge, c.SegmentAge)
	case c.MaxRequestBytes < 0 || c.MaxRequests < 0 || c.QueueSpans < 0:
		return c, fmt.Errorf("cannot use negative tracing limits (MaxRequestBytes %d, MaxRequests %d, QueueSpans %d)",
			c.MaxRequestBytes, c.MaxRequests, c.QueueSpans)
	}
	return c, nil
}
