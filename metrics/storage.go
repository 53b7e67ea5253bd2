package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
)

// openDB opens the database with settings for few series and little memory:
// a head of about an hour, and hash stripes and buffers sized for tens of
// thousands of series rather than millions.
func openDB(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*tsdb.DB, error) {
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("cannot make metrics directory %q: %w", cfg.Dir, err)
	}
	o := tsdb.DefaultOptions()
	o.RetentionDuration = cfg.Retention.Milliseconds()
	o.MaxBytes = cfg.RetentionBytes
	o.MinBlockDuration = time.Hour.Milliseconds()
	o.MaxBlockDuration = max(time.Hour, cfg.Retention/8).Milliseconds()
	o.WALCompression = compression.Snappy
	o.WALSegmentSize = 16 << 20
	o.StripeSize = 512
	o.HeadChunksWriteBufferSize = 64 << 10
	o.WALReplayConcurrency = min(2, runtime.GOMAXPROCS(0))
	o.FloatChunkEncoding = chunkenc.EncXOR
	// Containers come and go: drop their series from the head when half
	// of it is stale.
	o.StaleSeriesCompactionThreshold = 0.5
	db, err := tsdb.Open(cfg.Dir, log, reg, o, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot open metrics database %q: %w", cfg.Dir, err)
	}
	return db, nil
}

func newEngine(cfg Config, log *slog.Logger, reg prometheus.Registerer) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger:                   log,
		Reg:                      reg,
		MaxSamples:               50_000_000,
		Timeout:                  cfg.QueryTimeout,
		ActiveQueryTracker:       newQuerySlots(cfg.QueryConcurrency),
		LookbackDelta:            lookback,
		NoStepSubqueryIntervalFn: func(int64) int64 { return cfg.Interval.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		Parser:                   newParser(),
	})
}

// lookback is how long a series without staleness marker counts as present;
// Prometheus' default.
const lookback = 5 * time.Minute

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// querySlots bounds the queries that run at once. It is the engine's
// QueryTracker; unlike Prometheus' own it keeps no file.
type querySlots struct {
	slots chan struct{}
	once  sync.Once
	done  chan struct{}
}

func newQuerySlots(n int) *querySlots {
	return &querySlots{slots: make(chan struct{}, n), done: make(chan struct{})}
}

func (q *querySlots) GetMaxConcurrent() int { return cap(q.slots) }

func (q *querySlots) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case q.slots <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-q.done:
		return 0, errors.New("cannot query: the engine is closing")
	}
}

func (q *querySlots) Delete(int) { <-q.slots }

func (q *querySlots) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}
