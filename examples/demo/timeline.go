package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// timeline prints what happens, with the time since the start. It is safe for
// concurrent use.
type timeline struct {
	mu    sync.Mutex
	w     io.Writer
	begun time.Time
}

func newTimeline(w io.Writer) *timeline { return &timeline{w: w, begun: time.Now()} }

func (l *timeline) say(who, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "%6.1f s  %-9s %s\n", time.Since(l.begun).Seconds(), who, fmt.Sprintf(format, args...))
}
