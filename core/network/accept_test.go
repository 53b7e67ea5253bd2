package network

import (
	"context"
	"errors"
	"net"
	"testing"

	"binnacle.io/core/telemetry"
)

// flaky is a listener without descriptors, and then closed.
type flaky struct {
	net.Listener
	errs []error
}

func (f *flaky) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func TestAcceptGoesOn(t *testing.T) {
	l := &flaky{errs: []error{errors.New("too many open files"), net.ErrClosed}}
	(&Network{tel: telemetry.Discard()}).accept(context.Background(), l)
	if len(l.errs) > 0 {
		t.Error("no call is accepted after a passing error")
	}
}
