package tracing

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

// store is a ring of segments in memory, the sealed ones on disk as well.
type store struct {
	maxBytes     int64
	segmentBytes int64 // a segment this large is sealed
	maxAge       time.Duration
	segmentAge   time.Duration
	dir          segmentDir // "" keeps nothing on disk
	evicted      func(reason string, spans int)

	persisting sync.Mutex // serializes work on dir

	mu       sync.RWMutex
	segments []*segment // oldest first; the last one grows
	bytes    int64      // of all segments
	spans    int
	garbage  []uint64 // evicted segments whose files remain
}

const (
	evictedSize = "size"
	evictedAge  = "age"
)

func newStore(cfg Config, dir segmentDir, evicted func(string, int)) *store {
	return &store{
		maxBytes: cfg.MaxBytes, segmentBytes: max(cfg.MaxBytes/16, 4<<10),
		maxAge: cfg.MaxAge, segmentAge: cfg.SegmentAge, dir: dir, evicted: evicted,
	}
}

// load takes in the segments on disk, as many of the newest as fit. It returns
// the faults of those that cannot be read; these files are removed.
func (s *store) load(now time.Time) (faults []error, err error) {
	if s.dir == "" {
		return nil, nil
	}
	seqs, err := s.dir.list()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range seqs {
		g, err := s.dir.read(seq)
		if err != nil {
			faults = append(faults, errors.Join(err, remove(s.dir.path(seq))))
			continue
		}
		s.segments = append(s.segments, g)
		s.bytes += g.bytes
		s.spans += len(g.heads)
		s.trim(now)
	}
	return faults, nil
}

// growing returns the segment to append to. The lock is held.
func (s *store) growing(now time.Time) *segment {
	var seq uint64
	if n := len(s.segments); n > 0 {
		if g := s.segments[n-1]; g.words != nil {
			if g.bytes < s.segmentBytes && len(g.blob) < maxBlob {
				return g
			}
			g.seal()
		}
		seq = s.segments[n-1].seq + 1
	}
	for _, n := range s.garbage { // a number is not used again while its file remains
		seq = max(seq, n+1)
	}
	g := newSegment(seq, now)
	s.segments = append(s.segments, g)
	s.bytes += g.bytes
	return g
}

func (s *store) add(spans []*Span, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range spans {
		g := s.growing(now)
		before := g.bytes
		g.add(sp)
		g.updated = now
		s.bytes += g.bytes - before
		s.spans++
		if s.bytes > s.maxBytes {
			s.trim(now)
		}
	}
}

// trim evicts whole segments, oldest first, until bounds hold. The lock is held.
func (s *store) trim(now time.Time) {
	oldest := now.Add(-s.maxAge)
	for len(s.segments) > 0 {
		g := s.segments[0]
		reason := ""
		switch {
		case g.updated.Before(oldest):
			reason = evictedAge
		case s.bytes > s.maxBytes && len(s.segments) > 1:
			reason = evictedSize
		default:
			return
		}
		s.segments = slices.Delete(s.segments, 0, 1)
		s.bytes -= g.bytes
		s.spans -= len(g.heads)
		s.garbage = append(s.garbage, g.seq)
		s.evicted(reason, len(g.heads))
	}
}

// maintain evicts by age, seals a segment that is due (or any, when closing),
// and brings the disk in line with memory.
func (s *store) maintain(now time.Time, closing bool) error {
	s.persisting.Lock()
	defer s.persisting.Unlock()

	s.mu.Lock()
	s.trim(now)
	if n := len(s.segments); n > 0 {
		g := s.segments[n-1]
		if g.words != nil && len(g.heads) > 0 && (closing || now.Sub(g.created) >= s.segmentAge) {
			g.seal()
		}
	}
	var write []*segment
	for _, g := range s.segments {
		if g.words == nil && !g.persisted {
			write = append(write, g)
		}
	}
	garbage := s.garbage
	s.garbage = nil
	s.mu.Unlock()

	if s.dir == "" {
		return nil
	}
	var errs []error
	for _, g := range write {
		err := s.dir.write(g)
		if err == nil {
			s.mu.Lock()
			g.persisted = true
			s.mu.Unlock()
		}
		errs = append(errs, err)
	}
	for _, seq := range garbage {
		errs = append(errs, remove(s.dir.path(seq)))
	}
	return errors.Join(errs...)
}

func (s *store) size() (bytes int64, spans, segments int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes, s.spans, len(s.segments)
}

// trace returns the spans of one trace by start time, each span once.
func (s *store) trace(id TraceID) ([]*Span, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.traceLocked(id)
}

func (s *store) traceLocked(id TraceID) ([]*Span, error) {
	var out []*Span
	seen := map[SpanID]bool{}
	for _, g := range slices.Backward(s.segments) { // a span sent again replaces the old one
		for _, n := range slices.Backward(g.traces[id]) {
			if seen[g.heads[n].id] {
				continue
			}
			seen[g.heads[n].id] = true
			sp, err := g.span(n)
			if err != nil {
				return nil, err
			}
			out = append(out, sp)
		}
	}
	slices.SortStableFunc(out, func(a, b *Span) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), slices.Compare(a.ID[:], b.ID[:]))
	})
	return out, nil
}

// eachHead calls f for every stored span, newest segment first, until it
// returns false. The lock is held while f runs.
func (s *store) eachHead(f func(g *segment, n uint32) bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range slices.Backward(s.segments) {
		for n := len(g.heads) - 1; n >= 0; n-- {
			if !f(g, uint32(n)) {
				return
			}
		}
	}
}
