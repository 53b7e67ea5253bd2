package store

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Freshness says how recent a read must be. The zero value is Latest.
type Freshness struct {
	mode     freshMode
	revision int64
}

type freshMode uint8

const (
	latest freshMode = iota
	anyRevision
	notOlder
	exact
)

// Latest reads are linearizable: they see every write acknowledged before.
func Latest() Freshness { return Freshness{} }

// Any reads what the cache has (resourceVersion="0").
func Any() Freshness { return Freshness{mode: anyRevision} }

// NotOlderThan reads the cache once it has seen revision.
func NotOlderThan(revision int64) Freshness { return Freshness{notOlder, revision} }

// Exact reads the state as of revision, or fails with 410 Expired when that is
// no longer known.
func Exact(revision int64) Freshness { return Freshness{exact, revision} }

// futureWait is how long upstream waits for a revision that does not exist yet.
const futureWait = 3 * time.Second

// freshen waits until the cache is as fresh as asked.
func (s *Store) freshen(ctx context.Context, f Freshness) error {
	switch f.mode {
	case anyRevision:
		return nil
	case latest:
		start := time.Now()
		revision, err := s.checks.latest(ctx)
		if err != nil {
			return err
		}
		err = s.waitFor(ctx, revision)
		s.metrics.readWait.Observe(time.Since(start).Seconds())
		telemetry.Spent(ctx, telemetry.InStorage, start)
		return err
	}
	if s.applied.Load() >= f.revision {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, futureWait)
	defer cancel()
	if err := s.waitFor(wait, f.revision); err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			return tooLarge(f.revision, s.applied.Load())
		}
		return err
	}
	return nil
}

// Get reads one object.
func (s *Store) Get(ctx context.Context, gr client.Resource, key client.Key, fresh Freshness) (*Entry, error) {
	snap, err := s.Snapshot(ctx, gr, fresh)
	if err != nil {
		return nil, err
	}
	if e, ok := snap.Get(key); ok {
		return e, nil
	}
	if err := snap.table.corruption(pathOf(key)); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return nil, notFound(gr, key)
}

// Snapshot returns an immutable view of one kind.
func (s *Store) Snapshot(ctx context.Context, gr client.Resource, fresh Freshness) (Snapshot, error) {
	t, err := s.table(gr)
	if err != nil {
		return Snapshot{}, err
	}
	if fresh.mode == exact && fresh.revision <= 0 {
		return Snapshot{}, apierrors.NewBadRequest(fmt.Sprintf("invalid exact resource version %d", fresh.revision))
	}
	if err := s.freshen(ctx, fresh); err != nil {
		return Snapshot{}, err
	}
	if fresh.mode == exact {
		entries, ok := t.at(fresh.revision)
		if !ok || fresh.revision < s.compacted.Load() {
			return Snapshot{}, listExpired()
		}
		return Snapshot{table: t, revision: fresh.revision, entries: entries}, nil
	}
	// applied first: the table then holds every change through it. Where
	// the table is ahead, it is exactly at its own last change.
	applied := s.applied.Load()
	v := t.current.Load()
	return Snapshot{table: t, revision: max(applied, v.revision), entries: v.entries}, nil
}
