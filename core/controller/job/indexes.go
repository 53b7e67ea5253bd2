package job

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// span is a run of completion indexes, both ends included.
type span struct{ first, last int }

// indexes is a set of completion indexes: runs in order that neither overlap
// nor touch. Its text is that of status.completedIndexes: "1,3-5,7".
type indexes []span

// newIndexes makes a set of single indexes.
func newIndexes(of ...int) indexes {
	spans := make([]span, len(of))
	for i, n := range of {
		spans[i] = span{n, n}
	}
	return join(spans)
}

// parseIndexes reads a set as far as it lies below limit. What is not written
// by this package may be damaged: such runs are left out.
func parseIndexes(text string, limit int) indexes {
	var spans []span
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRun := strings.Cut(part, "-")
		if !isRun {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if last = min(last, limit-1); err1 == nil && err2 == nil && 0 <= first && first <= last {
			spans = append(spans, span{first, last})
		}
	}
	return join(spans)
}

func join(spans []span) (out indexes) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	for _, s := range spans {
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

func (x indexes) with(others ...indexes) indexes { return join(slices.Concat(append(others, x)...)) }

func (x indexes) count() (n int) {
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

func (x indexes) has(i int) bool {
	_, found := slices.BinarySearchFunc(x, i, func(s span, i int) int {
		switch {
		case s.last < i:
			return -1
		case s.first > i:
			return 1
		}
		return 0
	})
	return found
}

// common counts the indexes that are in both sets.
func (x indexes) common(y indexes) (n int) {
	for len(x) > 0 && len(y) > 0 {
		n += max(0, min(x[0].last, y[0].last)-max(x[0].first, y[0].first)+1)
		if x[0].last < y[0].last {
			x = x[1:]
		} else {
			y = y[1:]
		}
	}
	return n
}

// missing returns the lowest n indexes below limit that are not in x.
func (x indexes) missing(n, limit int) (out []int) {
	next := 0
	for _, s := range append(slices.Clone(x), span{limit, limit}) {
		for ; next < min(s.first, limit) && len(out) < n; next++ {
			out = append(out, next)
		}
		next = max(next, s.last+1)
	}
	return out
}

func (x indexes) String() string {
	var b strings.Builder
	for i, s := range x {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s.first))
		if s.last > s.first {
			between := byte('-')
			if s.last == s.first+1 {
				between = ','
			}
			b.WriteByte(between)
			b.WriteString(strconv.Itoa(s.last))
		}
	}
	return b.String()
}
