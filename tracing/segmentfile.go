package tracing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A segment file is, little-endian:
//
//	magic "bntrace1"
//	uvarint created, updated (Unix nanoseconds)
//	uvarint n ⨯ string                       dictionary
//	uvarint n ⨯ (string service, attributes) resources
//	uvarint n ⨯ head                         heads, as appendHead writes them
//	uvarint length, blob
//	uint32 CRC-32C of everything before
//
// It is written beside its final name, synced and renamed.
const (
	segmentMagic  = "bntrace1"
	segmentSuffix = ".seg"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// words is an interner over a finished dictionary.
type words map[string]uint32

func (w words) intern(s string) uint32 { return w[s] }

func encodeSegment(g *segment) []byte {
	dict := make(words, len(g.dict))
	for i, s := range g.dict {
		dict[s] = uint32(i)
	}
	b := make([]byte, 0, len(g.blob)+len(g.heads)*72+4096)
	b = append(b, segmentMagic...)
	b = binary.AppendUvarint(b, uint64(g.created.UnixNano()))
	b = binary.AppendUvarint(b, uint64(g.updated.UnixNano()))
	b = binary.AppendUvarint(b, uint64(len(g.dict)))
	for _, s := range g.dict {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(g.resources)))
	for _, r := range g.resources {
		b = appendAttrs(appendString(b, r.Service), r.Attrs, dict, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(g.heads)))
	for i := range g.heads {
		b = appendHead(b, &g.heads[i])
	}
	b = binary.AppendUvarint(b, uint64(len(g.blob)))
	b = append(b, g.blob...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendHead(b []byte, h *head) []byte {
	b = append(b, h.trace[:]...)
	b = append(b, h.id[:]...)
	b = append(b, h.parent[:]...)
	b = binary.AppendVarint(b, h.start)
	b = binary.AppendVarint(b, h.duration)
	b = binary.AppendUvarint(b, uint64(h.service))
	b = binary.AppendUvarint(b, uint64(h.name))
	b = binary.AppendUvarint(b, uint64(h.offset))
	return append(b, byte(h.kind), byte(h.status))
}

func decodeSegment(seq uint64, b []byte) (*segment, error) {
	if len(b) < len(segmentMagic)+4 || string(b[:len(segmentMagic)]) != segmentMagic {
		return nil, errors.New("not a span segment")
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("checksum mismatch")
	}
	return decodeSegmentBody(seq, body[len(segmentMagic):])
}

func decodeSegmentBody(seq uint64, body []byte) (*segment, error) {
	r := &reader{b: body}
	g := &segment{seq: seq, traces: map[TraceID][]uint32{}, persisted: true}
	g.created, g.updated = time.Unix(0, int64(r.uvarint())), time.Unix(0, int64(r.uvarint()))
	for range r.count() {
		s := r.string()
		g.dict = append(g.dict, s)
		g.bytes += wordBytes + int64(len(s))
		if r.err != nil {
			return nil, r.err
		}
	}
	r.dict = g.dict
	for range r.count() {
		before := len(r.b)
		g.resources = append(g.resources, &Resource{Service: r.string(), Attrs: r.attrs(0)})
		if r.err != nil {
			return nil, r.err
		}
		g.bytes += wordBytes + 4*int64(before-len(r.b))
	}
	for range r.count() {
		var h head
		copy(h.trace[:], r.bytes(16))
		copy(h.id[:], r.bytes(8))
		copy(h.parent[:], r.bytes(8))
		h.start, h.duration = r.varint(), r.varint()
		h.service, h.name, h.offset = uint32(r.uvarint()), uint32(r.uvarint()), uint32(r.uvarint())
		t := r.bytes(2)
		if r.err != nil {
			return nil, r.err
		}
		h.kind, h.status = Kind(t[0]), Status(t[1])
		if int(h.service) >= len(g.dict) || int(h.name) >= len(g.dict) || h.duration < 0 {
			return nil, errCorrupt
		}
		if n := len(g.heads); n > 0 && h.offset < g.heads[n-1].offset {
			return nil, errCorrupt
		}
		g.index(h)
	}
	g.blob = r.bytes(r.uvarint())
	if n := len(g.heads); r.err == nil && n > 0 && int(g.heads[n-1].offset) > len(g.blob) {
		r.fail()
	}
	if r.err != nil {
		return nil, r.err
	}
	g.bytes += int64(len(g.heads))*headBytes + int64(len(g.blob))
	return g, nil
}

// segmentDir is the folder of a store's sealed segments.
type segmentDir string

func (d segmentDir) path(seq uint64) string {
	return filepath.Join(string(d), fmt.Sprintf("%016x%s", seq, segmentSuffix))
}

func (d segmentDir) write(g *segment) error {
	path := d.path(g.seq)
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write span segment: %w", err)
	}
	_, err = f.Write(encodeSegment(g))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("cannot write span segment %q: %w", path, errors.Join(err, remove(tmp)))
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// list returns the numbers of the segments there are, oldest first, and clears
// away half-written ones.
func (d segmentDir) list() ([]uint64, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("cannot use trace folder: %w", err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("cannot read trace folder: %w", err)
	}
	var seqs []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok {
			if strings.HasSuffix(e.Name(), segmentSuffix+".tmp") {
				if err := remove(filepath.Join(string(d), e.Name())); err != nil {
					return nil, fmt.Errorf("cannot clear trace folder: %w", err)
				}
			}
			continue
		}
		if seq, err := strconv.ParseUint(name, 16, 64); err == nil {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs, nil
}

func (d segmentDir) read(seq uint64) (*segment, error) {
	b, err := os.ReadFile(d.path(seq))
	if err != nil {
		return nil, fmt.Errorf("cannot read span segment: %w", err)
	}
	g, err := decodeSegment(seq, b)
	if err != nil {
		return nil, fmt.Errorf("cannot decode span segment %q: %w", d.path(seq), err)
	}
	return g, nil
}
