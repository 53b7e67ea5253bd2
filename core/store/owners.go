package store

import (
	"hash/maphash"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
)

// maxOwners bounds the sets of owned fields that are remembered for sharing.
const maxOwners = 4096

// owners shares the sets of owned fields (managedFields) among objects: what
// one manager writes of one kind nearly always has the same fields, which are
// a quarter of such an object's memory.
type owners struct {
	seed maphash.Seed

	mu    sync.Mutex
	known map[uint64][]byte // by hash, guarded by mu
}

// share replaces the sets in obj by equal ones met before.
func (o *owners) share(obj client.Object) {
	if _, custom := obj.(runtime.Unstructured); custom {
		return // it has no FieldsV1, only what looks like it
	}
	for _, entry := range obj.GetManagedFields() {
		if entry.FieldsV1 != nil {
			entry.FieldsV1.Raw = o.canonical(entry.FieldsV1)
		}
	}
}

func (o *owners) canonical(f *metav1.FieldsV1) []byte {
	hash := maphash.Bytes(o.seed, f.Raw)
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.known[hash]; ok && string(known) == string(f.Raw) {
		return known
	}
	if o.known == nil || len(o.known) >= maxOwners {
		o.known = map[uint64][]byte{}
	}
	o.known[hash] = f.Raw
	return f.Raw
}
