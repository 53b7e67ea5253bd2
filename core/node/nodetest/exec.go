package nodetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"binnacle.io/core/node/runtime"
	"binnacle.io/core/telemetry"
)

// Exec runs a command in a container and returns its output.
func (n *Node) Exec(t testing.TB, container string, cmd ...string) (string, error) {
	t.Helper()
	cri, err := runtime.Dial(n.Config.Socket(), telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer cri.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := cri.Exec(ctx, container, cmd, 0)
	if err != nil {
		return "", err
	}
	if r.ExitCode != 0 {
		return string(r.Stdout), fmt.Errorf("%q exited with %d: %s", cmd, r.ExitCode, r.Stderr)
	}
	return string(r.Stdout), nil
}
