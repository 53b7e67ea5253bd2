package api

import (
	"encoding/binary"
	"errors"
	"iter"
	"runtime"
	"sync"

	apiruntime "k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
)

// rendering is one way to encode the objects of a kind, or their metadata
// alone. What it makes of an entry is made once and shared by all that ask.
// JSON ends in a newline.
type rendering struct {
	s     *Server
	as    version
	media string
	meta  string // version of PartialObjectMetadata; empty: the whole object
	key   string // of the encodings cached on entries
}

func (s *Server) rendering(v version, media string) *rendering {
	return s.known(renderingKey{kind: v.kind, version: v.gvk.GroupVersion().String(), media: media}, func() *rendering {
		return &rendering{s: s, as: v, media: media, key: media + ";" + v.gvk.Group + "/" + v.gvk.Version}
	})
}

// metaRendering is that of the metadata alone; version is v1 or v1beta1 of
// meta.k8s.io.
func (s *Server) metaRendering(version, media string) *rendering {
	return s.known(renderingKey{version: version, media: media}, func() *rendering {
		return &rendering{s: s, media: media, meta: version, key: media + ";meta;" + version}
	})
}

type renderingKey struct {
	kind           *kind.Kind
	version, media string
}

// known makes each rendering once: that its key is always the same string
// makes finding encodings by it cheap.
func (s *Server) known(key renderingKey, make func() *rendering) *rendering {
	if r, ok := s.renderings.Load(key); ok {
		return r.(*rendering)
	}
	r, _ := s.renderings.LoadOrStore(key, make())
	return r.(*rendering)
}

// in is the same in another media type.
func (r *rendering) in(media string) *rendering {
	if r.meta != "" {
		return r.s.metaRendering(r.meta, media)
	}
	return r.s.rendering(r.as, media)
}

func (r *rendering) object(o client.Object) ([]byte, error) {
	if r.meta != "" {
		return r.s.codecs.encode(partial(o, r.meta), r.media, false)
	}
	out, err := r.as.fromHub(o)
	if err != nil {
		return nil, err
	}
	return r.s.codecs.encode(out, r.media, false)
}

func (r *rendering) entry(e *store.Entry) ([]byte, error) {
	if data, ok := e.Cached(r.key); ok {
		return data, nil
	}
	return e.Encoded(r.key, func() ([]byte, error) { return r.object(e.Object) })
}

func (r *rendering) result(res result) ([]byte, error) {
	if res.entry != nil && res.entry.Object == res.object {
		return r.entry(res.entry)
	}
	return r.object(res.object)
}

// cached returns what there is of the entries, nil for the others.
func (r *rendering) cached(entries []*store.Entry) [][]byte {
	have := make([][]byte, len(entries))
	for i, e := range entries {
		have[i], _ = e.Cached(r.key)
	}
	return have
}

// size is the length of the entry's protobuf message. It encodes nothing.
func (r *rendering) size(e *store.Entry) (int, error) {
	var o apiruntime.Object = e.Object
	if r.meta != "" {
		o = partial(e.Object, r.meta)
	} else if out, err := r.as.fromHub(e.Object); err != nil {
		return 0, err
	} else {
		o = out
	}
	m, ok := o.(apiruntime.ProtobufMarshaller)
	if !ok {
		return 0, notAcceptable(mediaJSON + ", " + mediaYAML)
	}
	return m.Size(), nil
}

const (
	// window is how many entries are encoded ahead of being written, and
	// worthSharing how many of them must lack an encoding for the other
	// processors to help.
	window       = 256
	worthSharing = 16
)

// all yields what it makes of the entries, in order. Those not cached are
// encoded on all processors. have is what cached returned, or nil.
func (r *rendering) all(entries []*store.Entry, have [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for from := 0; from < len(entries); from += window {
			batch := entries[from:min(from+window, len(entries))]
			var ready [][]byte
			if have != nil {
				ready = have[from : from+len(batch)]
			} else {
				ready = r.cached(batch)
			}
			r.ahead(batch, ready)
			for i, e := range batch {
				data, err := ready[i], error(nil)
				if data == nil {
					// An error found ahead is found again here.
					data, err = r.entry(e)
				}
				if !yield(data, err) || err != nil {
					return
				}
			}
		}
	}
}

func (r *rendering) ahead(batch []*store.Entry, ready [][]byte) {
	var missing []*store.Entry
	for i, e := range batch {
		if ready[i] == nil {
			missing = append(missing, e)
		}
	}
	if len(missing) < worthSharing {
		return
	}
	var all sync.WaitGroup
	per := (len(missing) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	for start := 0; start < len(missing); start += per {
		all.Go(func() {
			for _, e := range missing[start:min(start+per, len(missing))] {
				_, _ = r.entry(e)
			}
		})
	}
	all.Wait()
}

// Protobuf wire details: every list message has ListMeta as field 1 and its
// items as field 2; runtime.Unknown has TypeMeta as field 1 and the raw object
// as field 2.
const (
	tagMeta  = 1<<3 | 2
	tagItems = 2<<3 | 2
	tagRaw   = 2<<3 | 2
)

var protobufEnvelope = [4]byte{'k', '8', 's', 0}

// rawProtobuf is the object inside an envelope.
func rawProtobuf(envelope []byte) ([]byte, error) {
	if len(envelope) < 4 {
		return nil, errors.New("protobuf envelope too short")
	}
	var raw []byte
	for rest := envelope[4:]; len(rest) > 0; {
		tag, n := binary.Uvarint(rest)
		if n <= 0 || tag&7 != 2 {
			return nil, errors.New("protobuf envelope malformed")
		}
		rest = rest[n:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, errors.New("protobuf envelope truncated")
		}
		if tag == tagRaw {
			raw = rest[n : n+int(size)]
		}
		rest = rest[n+int(size):]
	}
	return raw, nil
}

// rawSizes returns the length of the raw object in an envelope of a given
// length, learned from another envelope of the same kind: they differ only in
// the object and its length.
func rawSizes(envelope []byte) (func(length int) int, error) {
	raw, err := rawProtobuf(envelope)
	if err != nil {
		return nil, err
	}
	rest := len(envelope) - fieldSize(len(raw))
	return func(length int) int {
		for varint := 1; varint <= binary.MaxVarintLen64; varint++ {
			if n := length - rest - 1 - varint; n >= 0 && fieldSize(n) == length-rest {
				return n
			}
		}
		return 0 // which the writer notices
	}, nil
}

func fieldSize(n int) int {
	var varint [binary.MaxVarintLen64]byte
	return 1 + binary.PutUvarint(varint[:], uint64(n)) + n
}

func appendField(dst []byte, tag byte, data []byte) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	return append(dst, data...)
}
