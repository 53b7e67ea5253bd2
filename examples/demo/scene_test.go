package main

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func look(desired, ready, utilisation int32) view {
	v := view{hpaDesired: desired, utilisation: utilisation}
	v.frontend.desired, v.frontend.ready = desired, ready
	return v
}

func TestRestIsUninterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(nil, newTimeline(io.Discard))
		after := func(v view, want time.Duration) {
			t.Helper()
			time.Sleep(time.Second) // synthetic
			s.tell(v)
			if s.last.rested != want {
				t.Errorf("rested %v, want %v", s.last.rested, want)
			}
		}
		after(look(3, 2, 1), 0)
		after(look(3, 3, 1), time.Second)
		after(look(3, 3, 2), 2*time.Second)
		after(look(3, 3, target), 0)
		after(look(3, 3, 1), time.Second)
		after(look(6, 3, 1), 0)
		after(look(3, 3, -1), 0)
	})
}

func TestRescalesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(nil, newTimeline(io.Discard))
		s.tell(look(3, 3, 1))
		begun := time.Now()
		if _, ok := s.scaledAfter(begun); ok {
			t.Error("the first look counts as a change")
		}
		time.Sleep(2 * time.Second)
		s.tell(look(5, 3, 90))
		time.Sleep(time.Second)
		s.tell(look(7, 5, 90))
		if at, ok := s.scaledAfter(begun); !ok || at.Sub(begun) != 2*time.Second {
			t.Errorf("scaled after %v, %v; want the first change, after 2s", at.Sub(begun), ok)
		}
	})
}
