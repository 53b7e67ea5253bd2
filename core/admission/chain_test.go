package admission

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// recorder notes when it is asked, and refuses when told to.
type recorder struct {
	name   string
	log    *[]string
	refuse error
	skip   bool
}

func (r *recorder) Name() string                                    { return r.name }
func (r *recorder) Handles(Operation, client.Resource, string) bool { return !r.skip }
func (r *recorder) Admit(_ context.Context, a *Attributes) error {
	*r.log = append(*r.log, "admit "+r.name)
	a.Warn(r.name + " was here")
	a.OnDone(func(ok bool) {
		if ok {
			*r.log = append(*r.log, "commit "+r.name)
		} else {
			*r.log = append(*r.log, "abort "+r.name)
		}
	})
	return r.refuse
}

func (r *recorder) Validate(context.Context, *Attributes) error {
	*r.log = append(*r.log, "validate "+r.name)
	return nil
}

func TestChain(t *testing.T) {
	for _, tc := range []struct {
		name      string
		refuse    error
		dryRun    bool
		committed bool
		want      string
	}{
		{"commit", nil, false, true, "admit a,admit b,validate a,validate b,commit b,commit a"},
		{"abort", nil, false, false, "admit a,admit b,validate a,validate b,abort b,abort a"},
		{"dry run", nil, true, true, "admit a,admit b,validate a,validate b,abort b,abort a"},
		{"refusal", errors.New("no"), false, false, "admit a,abort a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log []string
			tel := telemetry.Discard()
			c, err := NewChain(tel)
			if err != nil {
				t.Fatal(err)
			}
			c.Use(&recorder{name: "a", log: &log, refuse: tc.refuse}, &recorder{name: "x", log: &log, skip: true}, &recorder{name: "b", log: &log})
			a := &Attributes{Op: Create, Resource: podResource, DryRun: tc.dryRun}
			err = c.Mutate(t.Context(), a)
			if !errors.Is(err, tc.refuse) {
				t.Errorf("error %v", err)
			}
			if err == nil {
				if err := c.Validate(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			a.Done(tc.committed)
			a.Done(!tc.committed)
			if got := strings.Join(log, ","); got != tc.want {
				t.Errorf("did %s", got)
			}
			if !slices.Contains(a.Warnings(), "a was here") {
				t.Errorf("warnings %q", a.Warnings())
			}
			n, err := testutil.GatherAndCount(tel.Registry, "apiserver_admission_controller_admission_duration_seconds", "apiserver_admission_step_admission_duration_seconds")
			if err != nil || n == 0 {
				t.Errorf("%d metrics, %v", n, err)
			}
		})
	}
}
