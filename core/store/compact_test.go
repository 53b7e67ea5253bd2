package store

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestCompactionEndsExactReads: what was compacted away is gone, even of a
// kind that nobody writes to, whose table still knows it.
func TestCompactionEndsExactReads(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		for i := range 10 {
			must(s.Create(ctx, configMaps, configMap("ns", fmt.Sprint(i), "1")))(t)
		}
		first := must(s.Snapshot(ctx, configMaps, Latest()))(t)
		first.Keep()
		turn, revision, err := s.compactOnce(ctx, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Snapshot(ctx, configMaps, Exact(first.Revision())); err != nil {
			t.Errorf("exact read before the compaction: %v", err)
		}
		must(s.Create(ctx, pods, pod("ns", "p", "")))(t)
		turn, next, err := s.compactOnce(ctx, turn, revision)
		if err != nil || next <= revision {
			t.Fatalf("revision %d after %d, %v", next, revision, err)
		}
		if _, err := s.Snapshot(ctx, configMaps, Exact(first.Revision())); !apierrors.IsResourceExpired(err) {
			t.Errorf("exact read of what was compacted away: %v", err)
		}
		again := must(s.Snapshot(ctx, configMaps, Latest()))(t)
		if again.Revision() == first.Revision() || again.Len() != 10 {
			t.Errorf("%d objects at revision %d, the first read was of %d", again.Len(), again.Revision(), first.Revision())
		}
		// Who comes late learns from the key what the other did.
		s.compacted.Store(0)
		if _, _, err := s.compactOnce(ctx, turn-1, next); err != nil || s.compacted.Load() != revision {
			t.Errorf("the loser of the turn knows of a compaction to %d, want %d; %v", s.compacted.Load(), revision, err)
		}
	})
}
