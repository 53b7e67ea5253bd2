package store

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"github.com/soheilhy/cmux"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger hands etcd's log records to log. etcd's informational records are
// debugging to anyone else. What etcd calls fatal panics instead of ending the
// process: startServer turns that into an error.
func zapLogger(log *slog.Logger) *zap.Logger {
	return zap.New(zapBridge{log.Handler().WithAttrs([]slog.Attr{slog.String("subsystem", "etcd")})}, zap.WithFatalHook(zapcore.WriteThenPanic))
}

type zapBridge struct{ handler slog.Handler }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// pointless reports warnings about listeners and users an embedded etcd does
// not have, and about a start that startServer waits for and reports on itself.
func pointless(message string) bool {
	switch message {
	case "Running http and grpc server on single port. This is not recommended for production.",
		"simple token is not cryptographically signed",
		"failed to publish local member to cluster through raft",
		"stopped publish because server is stopping":
		return true
	}
	return false
}

func (b zapBridge) Enabled(l zapcore.Level) bool {
	return b.handler.Enabled(context.Background(), slogLevel(l))
}

func (b zapBridge) With(fields []zapcore.Field) zapcore.Core {
	return zapBridge{b.handler.WithAttrs(attrs(fields))}
}

func (b zapBridge) Check(ent zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(ent.Level) && !pointless(ent.Message) {
		return ce.AddCore(ent, b)
	}
	return ce
}

// closing reports what etcd calls an error when its listeners are closed.
func closing(message string, fields []zapcore.Field) bool {
	if message != "setting up serving from embedded etcd failed." {
		return false
	}
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			return errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) || errors.Is(err, cmux.ErrServerClosed)
		}
	}
	return false
}

func (b zapBridge) Write(ent zapcore.Entry, fields []zapcore.Field) error {
	if closing(ent.Message, fields) {
		return nil
	}
	r := slog.NewRecord(ent.Time, slogLevel(ent.Level), ent.Message, 0)
	r.AddAttrs(attrs(fields)...)
	return b.handler.Handle(context.Background(), r)
}

func (zapBridge) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		out = append(out, slog.Any(k, v))
	}
	return out
}
