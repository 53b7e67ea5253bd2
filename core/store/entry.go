package store

import (
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"binnacle.io/core/client"
)

// Entry is one version of one object. It is immutable and shared.
type Entry struct {
	Key client.Key
	// Revision is the etcd revision that wrote this version: the number in
	// the object's resourceVersion. For a deletion it is the deletion's.
	Revision int64
	// Object has resourceVersion and the hub's apiVersion and kind set.
	Object client.Object

	path  string // below the kind's prefix: "name" or "namespace/name"
	marks uint64 // of the object's labels, see labelMarks
	size  int    // of the stored value before encryption, bytes
	sum   uint64 // hash of the same
	stale bool   // encrypted otherwise than it would be today
	cache *encodings

	making  atomic.Pointer[chan struct{}] // closed when the encoding being made is there
	encoded atomic.Pointer[encoding]
	used    atomic.Bool // since the cache's hand last passed
}

// encoding is a link in an entry's list of cached encodings.
type encoding struct {
	key  string
	data []byte
	next *encoding
}

func (e *Entry) find(key string) ([]byte, bool) {
	for c := e.encoded.Load(); c != nil; c = c.next {
		if c.key == key {
			return c.data, true
		}
	}
	return nil, false
}

// Cached returns the bytes cached under key, if they are.
func (e *Entry) Cached(key string) ([]byte, bool) {
	data, ok := e.find(key)
	if ok && !e.used.Load() {
		e.used.Store(true)
	}
	return data, ok
}

// Encoded returns the bytes cached under key, calling encode at most once at a
// time to produce them. key names the encoding and version, such as
// "application/json;v1"; there should be few. The result is shared and must
// not be modified. Cached bytes are bounded over all entries together, so encode
// may be called again later.
func (e *Entry) Encoded(key string, encode func() ([]byte, error)) ([]byte, error) {
	for {
		if data, ok := e.Cached(key); ok {
			return data, nil
		}
		// Hundreds of watchers come here at once. They are all woken
		// together when it is there: a mutex would let them by one by one.
		if other := e.making.Load(); other != nil {
			<-*other
			continue
		}
		if made := make(chan struct{}); e.making.CompareAndSwap(nil, &made) {
			return e.encode(key, encode, made)
		}
	}
}

// encode is for who has set making to made.
func (e *Entry) encode(key string, encode func() ([]byte, error), made chan struct{}) ([]byte, error) {
	defer close(made)
	defer e.making.Store(nil)
	if data, ok := e.find(key); ok {
		return data, nil
	}
	data, err := encode()
	if err != nil {
		return nil, err
	}
	e.encoded.Store(&encoding{key: key, data: data, next: e.encoded.Load()})
	e.cache.added(e, len(data))
	return data, nil
}

// Size is the length of the value stored in etcd before encryption, in bytes.
func (e *Entry) Size() int { return e.size }

// pathOf is the key below the kind's prefix. Tables are ordered by it, which
// is etcd's order.
func pathOf(k client.Key) string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

func keyOfPath(path string) client.Key {
	if ns, name, ok := strings.Cut(path, "/"); ok {
		return client.Key{Namespace: ns, Name: name}
	}
	return client.Key{Name: path}
}

// encodings accounts for the encodings of all entries and drops the longest
// unused when they exceed max. Entries are held weakly: those no longer in any
// table or ring go with their bytes, whose accounting follows when the hand
// reaches them.
type encodings struct {
	max int64

	mu    sync.Mutex
	bytes int64    // guarded by mu; an upper bound of what is held
	queue []cached // guarded by mu; oldest first from head
	head  int      // guarded by mu
}

type cached struct {
	entry weak.Pointer[Entry]
	size  int64
}

func (c *encodings) added(e *Entry, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += int64(n)
	c.queue = append(c.queue, cached{weak.Make(e), int64(n)})
	// Every round either drops a record or clears a used mark, so two
	// passes over the queue suffice.
	for c.bytes > c.max && c.head < len(c.queue) {
		old := c.queue[c.head]
		c.queue[c.head] = cached{}
		c.head++
		if victim := old.entry.Value(); victim != nil && victim.encoded.Load() != nil {
			if victim != e && victim.used.CompareAndSwap(true, false) {
				c.queue = append(c.queue, old)
				continue
			}
			victim.encoded.Store(nil)
		}
		c.bytes -= old.size
	}
	if c.head > 1024 && c.head > len(c.queue)/2 {
		c.queue = append(c.queue[:0:0], c.queue[c.head:]...)
		c.head = 0
	}
}

func (c *encodings) total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
