// Package store keeps the cluster's objects in etcd and serves them from
// memory.
//
// It owns the etcd keys below /registry/, the encoding of their values, the
// one watch that follows them, and the per-kind tables, rings and cursors fed
// by that watch. etcd runs inside the process unless endpoints are configured.
//
// It promises:
//
//   - Keys and values are upstream's: /registry/<prefix>/[namespace/]name,
//     holding a protobuf envelope ("k8s\x00") of the hub version, or JSON for
//     kinds that have no protobuf form; encrypted where Config says so.
//   - An acknowledged write is on disk (fsync) and visible: a write returns
//     once the cache has seen its revision, so every later read sees it.
//   - Entries and the objects in them are immutable and shared by all readers.
//     resourceVersion and the hub's apiVersion and kind are set on them.
//   - Readers never block writers, nor each other: a Snapshot is an immutable
//     tree. Latest reads are linearizable; concurrent ones share one check.
//   - A Cursor yields every change that concerns it once and in order, or
//     ends with 410 Expired after it fell behind the ring. A reader that stops
//     costs others nothing.
//   - Objects that go in belong to the caller and are not kept, except that
//     what an Update's change function returns is the store's to modify.
//   - Every refusal an API client may see is an apierrors.APIStatus.
//   - What is encrypted at rest is so in upstream's formats, by an
//     EncryptionConfiguration that is made when there is none. RotateKeys may
//     be interrupted at any moment.
//   - An embedded etcd keeps within its quota and its disk: before either is
//     full, what grows is refused with 507, while reads, watches, leases,
//     deletions and what is being deleted go on; with room it is taken again.
//     Where etcd cannot go on all the same, Wait says so, and nothing that
//     was acknowledged is lost.
//   - A restored snapshot goes on from a revision nobody has seen, without
//     history, so that clients list anew; the data before it is kept.
//
// It refuses to default, validate, authorize or convert requests, to write
// more than one key in a transaction, and to open a data directory that
// another process holds.
package store
