package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// stopWithin bounds how long one service may take to stop.
const stopWithin = 20 * time.Second

// supervisor starts services in order, waits until the first one fails or ctx
// ends, and stops them in reverse.
type supervisor struct {
	mu       sync.Mutex
	services []*service // guarded by mu
	failed   chan error
	once     sync.Once
}

type service struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

func newSupervisor() *supervisor { return &supervisor{failed: make(chan error, 1)} }

// start runs f until stop. ready, if not nil, is waited for.
func (s *supervisor) start(ctx context.Context, name string, f func(context.Context) error, ready <-chan struct{}) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	svc := &service{name: name, cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	s.services = append(s.services, svc)
	s.mu.Unlock()
	go func() {
		err := f(run)
		if err != nil && run.Err() == nil {
			svc.err = fmt.Errorf("%s: %w", name, err)
		} else if run.Err() == nil {
			svc.err = fmt.Errorf("%s ended by itself", name)
		}
		close(svc.done)
		if svc.err != nil {
			s.once.Do(func() { s.failed <- svc.err })
		}
	}()
	if ready == nil {
		return nil
	}
	select {
	case <-ready:
		return nil
	case <-svc.done:
		return svc.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait returns the first failure, or nil when ctx ends.
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// running returns a check that the named service has been started and goes on.
func (s *supervisor) running(name string) func(context.Context) error {
	return func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := slices.IndexFunc(s.services, func(svc *service) bool { return svc.name == name })
		if i < 0 {
			return fmt.Errorf("%s has not been started", name)
		}
		select {
		case <-s.services[i].done:
			return fmt.Errorf("%s has ended", name)
		default:
			return nil
		}
	}
}

// stop ends all services, the last started first.
func (s *supervisor) stop() error {
	s.mu.Lock()
	services := slices.Clone(s.services)
	s.mu.Unlock()
	var errs []error
	for _, svc := range slices.Backward(services) {
		svc.cancel()
		select {
		case <-svc.done:
		case <-time.After(stopWithin):
			errs = append(errs, fmt.Errorf("%s did not stop within %v", svc.name, stopWithin))
		}
	}
	return errors.Join(errs...)
}

// progress tells on the screen what is going on.
type progress struct {
	out   io.Writer
	quiet bool
	began time.Time
}

func newProgress(out io.Writer, quiet bool) *progress {
	return &progress{out: out, quiet: quiet, began: time.Now()}
}

func (p *progress) step(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.out, "%6.2fs  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (p *progress) line(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.out, format+"\n", args...)
	}
}
