// Package garbage deletes what nobody owns any more.
//
// It owns the graph of owner references over all deletable resources and the
// finalizers foregroundDeletion and orphan. It promises that an object whose
// owners are all gone is deleted, that foreground deletion waits for the
// dependents that block it, and that orphaning removes the references first.
// An owner that was never seen is asked for before its dependents go: a
// missing watch event must not delete anything. It refuses owners in other
// namespaces, which cannot exist.
package garbage
