package differential

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A deliberation is a disagreement that is known: in which file, which cases,
// and why.
type deliberation struct {
	file, pattern, why string
	used               atomic.Int64
}

func (d *deliberation) String() string {
	return fmt.Sprintf("%s | %s | %s", d.file, d.pattern, d.why)
}

// readDeliberate reads lines "file | case | reason". A * in the file or the case
// stands for anything.
func readDeliberate(name string) ([]*deliberation, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var ds []*deliberation
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 {
			return nil, fmt.Errorf("cannot read %s: %q is not file | case | reason", name, line)
		}
		ds = append(ds, &deliberation{file: parts[0], pattern: parts[1], why: parts[2]})
	}
	return ds, nil
}

func deliberateFor(ds []*deliberation, file, line string) *deliberation {
	for _, d := range ds {
		if matches(file, d.file) && matches(line, d.pattern) {
			return d
		}
	}
	return nil
}

// matches says whether the line is the pattern, in which * stands for anything.
func matches(line, pattern string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(line, parts[0])
	if !ok || len(parts) == 1 {
		return ok && rest == ""
	}
	for _, p := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

// disagreement shows both answers, without the lines they share.
func disagreement(v verdict, want, got answer) string {
	what := strings.Join(v.differs, ", ")
	if v.worded {
		what = "wording"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  differs in: %s\n", what)
	w, g := want.lines(), got.lines()
	only := func(mark string, of, but []string) {
		for i, l := range of {
			if i == 0 && want.code != got.code || !slices.Contains(but, l) {
				fmt.Fprintf(&b, "  %s %s\n", mark, l)
			}
		}
	}
	only("upstream:", w, g)
	only("binnacle:", g, w)
	return b.String()
}

// A summary counts how far kinds agree.
type summary struct {
	mu    sync.Mutex
	kinds map[string]*score
	// listed disagreements are counted and not shown.
	listed int
}

type score struct {
	name                     string
	cases, differing, worded int
	lines                    []string
}

func (s *summary) of(name string) *score {
	if s.kinds == nil {
		s.kinds = map[string]*score{}
	}
	if s.kinds[name] == nil {
		s.kinds[name] = &score{name: name}
	}
	return s.kinds[name]
}

func (s *summary) add(name, line string, v verdict, want, got answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of(name)
	k.cases++
	switch {
	case v.agrees():
		return
	case v.worded:
		k.worded++
	default:
		k.differing++
	}
	k.lines = append(k.lines, line+"\n"+disagreement(v, want, got))
}

// excuse counts a disagreement that is listed.
func (s *summary) excuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed++
}

func (s *summary) fail(name string, cases int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of(name)
	k.cases, k.differing = cases, cases
	k.lines = append(k.lines, err.Error()+"\n")
}

func (s *summary) sorted() []*score {
	var ks []*score
	for _, k := range s.kinds {
		ks = append(ks, k)
	}
	slices.SortFunc(ks, func(a, b *score) int { return cmp.Compare(a.name, b.name) })
	return ks
}

func (s *summary) total() string {
	var all score
	for _, k := range s.sorted() {
		all.cases, all.differing, all.worded = all.cases+k.cases, all.differing+k.differing, all.worded+k.worded
	}
	return fmt.Sprintf("%d cases of %d kinds: %d differ, %d more only in wording, %d more are listed", all.cases, len(s.kinds), all.differing, all.worded, s.listed)
}

// String is a table of the kinds and then every disagreement.
func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%-50s %6s %8s %8s\n", s.total(), "kind", "cases", "differ", "wording")
	for _, k := range s.sorted() {
		fmt.Fprintf(&b, "%-50s %6d %8d %8d\n", k.name, k.cases, k.differing, k.worded)
	}
	for _, k := range s.sorted() {
		if len(k.lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n== %s\n\n", k.name)
		for _, l := range k.lines {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}
