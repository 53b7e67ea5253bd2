package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// failure is why an embedded etcd cannot go on, once it cannot.
type failure struct {
	once  sync.Once
	cause error         // set before ended is closed
	ended chan struct{} // closed by the first failure
}

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	select {
	case <-f.ended:
		return f.cause
	default:
		return nil
	}
}

// fatal is what happens when etcd meets what it calls fatal, such as a log it
// cannot write. While etcd starts that panics, and startServer recovers. Later
// the goroutine that met it stops where it is, for good: nothing behind it is
// acknowledged, no lock it holds is given up, and whoever owns the store is
// told to end the process.
type fatal struct {
	started atomic.Bool
	failed  *failure
}

func newFatal() *fatal { return &fatal{failed: &failure{ended: make(chan struct{})}} }

func (f *fatal) logger(log *slog.Logger) *zap.Logger {
	return zapLogger(log).WithOptions(zap.WithFatalHook(f), zap.WithPanicHook(f))
}

// OnWrite is called after the record was logged.
func (f *fatal) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	cause := errors.New(entry.Message)
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
			cause = fmt.Errorf("%s: %w", entry.Message, err)
		}
	}
	if !f.started.Load() {
		panic(cause)
	}
	f.failed.once.Do(func() {
		f.failed.cause = fmt.Errorf("etcd cannot go on: %w", cause)
		close(f.failed.ended)
	})
	select {}
}
