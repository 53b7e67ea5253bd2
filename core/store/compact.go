package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
)

// compactKey is where upstream's API servers agree on who compacts: its
// version counts compactions, its value is the revision of the last.
const compactKey = "compact_rev_key"

// compact drops history older than CompactEvery, in turn with whoever else
// does. The tables may still know what etcd has dropped; it is over for
// readers all the same, so that a continue token does not live for ever.
func (s *Store) compact(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.CompactEvery)
	defer ticker.Stop()
	var turn, revision int64
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		var err error
		if turn, revision, err = s.compactOnce(ctx, turn, revision); err != nil && ctx.Err() == nil {
			s.tel.Log.Error("cannot compact etcd", "error", err)
		}
	}
}

// compactOnce compacts up to revision if nobody has since turn, and returns
// the turn and etcd's revision for the next time.
func (s *Store) compactOnce(ctx context.Context, turn, revision int64) (nextTurn, now int64, err error) {
	op := s.begin(ctx, "etcd.compact", "compact", client.Resource{})
	defer func() { op.end(err) }()
	resp, err := s.etcd.Txn(op.ctx).
		If(clientv3.Compare(clientv3.Version(compactKey), "=", turn)).
		Then(clientv3.OpPut(compactKey, strconv.FormatInt(revision, 10))).
		Else(clientv3.OpGet(compactKey)).
		Commit()
	if err != nil {
		return turn, revision, fmt.Errorf("cannot take the turn to compact: %w", err)
	}
	now = resp.Header.Revision
	if !resp.Succeeded {
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			turn = kvs[0].Version
			// What another program wrote there says nothing.
			if by, err := strconv.ParseInt(string(kvs[0].Value), 10, 64); err == nil {
				s.forgetBefore(by)
			}
		}
		return turn, now, nil
	}
	if revision > 0 {
		if _, err := s.etcd.Compact(op.ctx, revision); err != nil {
			return turn + 1, now, fmt.Errorf("cannot compact to revision %d: %w", revision, err)
		}
		s.forgetBefore(revision)
	}
	return turn + 1, now, nil
}

// forgetBefore ends exact reads of revisions before the given one.
func (s *Store) forgetBefore(revision int64) {
	for {
		old := s.compacted.Load()
		if revision <= old || s.compacted.CompareAndSwap(old, revision) {
			return
		}
	}
}
