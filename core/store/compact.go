package store

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"binnacle.io/core/client"
)

// compactKey is where upstream's API servers agree on who compacts. Its
// version counts compactions.
const compactKey = "compact_rev_key"

// compact drops history of an external etcd older than CompactEvery, in turn
// with whoever else does. An embedded etcd compacts itself.
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
func (s *Store) compactOnce(ctx context.Context, turn, revision int64) (int64, int64, error) {
	op := s.begin(ctx, "etcd.compact", "compact", client.Resource{})
	resp, err := s.etcd.Txn(op.ctx).
		If(clientv3.Compare(clientv3.Version(compactKey), "=", turn)).
		Then(clientv3.OpPut(compactKey, time.Now().UTC().Format(time.RFC3339))).
		Else(clientv3.OpGet(compactKey)).
		Commit()
	if err != nil {
		op.end(err)
		return turn, revision, err
	}
	now := resp.Header.Revision
	if !resp.Succeeded {
		op.end(nil)
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			turn = kvs[0].Version
		}
		return turn, now, nil
	}
	if revision > 0 {
		_, err = s.etcd.Compact(op.ctx, revision)
	}
	op.end(err)
	return turn + 1, now, err
}
