package api

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
)

// onWrite is a connection that tells when it is written to.
type onWrite struct {
	net.Conn
	tell func(p []byte)
}

func (c onWrite) Write(p []byte) (int, error) {
	c.tell(p)
	return len(p), nil
}

// TestGathering checks that who can run does so before a connection is written
// to. The scheduler may choose otherwise now and then, for fairness.
func TestGathering(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rounds = 100
	gathered := 0
	for range rounds {
		var ready atomic.Bool
		c := gatheringConn{onWrite{tell: func(p []byte) {
			if string(p) != "event" {
				t.Errorf("wrote %q", p)
			}
			if ready.Load() {
				gathered++
			}
		}}}
		go ready.Store(true)
		if n, err := c.Write([]byte("event")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	if gathered < rounds/2 {
		t.Errorf("%d of %d writes waited for who was ready", gathered, rounds)
	}
}
