package differential

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A request is what a case sends: a verb, where to, and the changes made to
// the seed before. In text:
//
//	create rich: .spec.replicas = -1
//	update rich: - .spec.selector
//	update/status rich: .status.replicas = -1
//	create/eviction rich with now: .deleteOptions.gracePeriodSeconds = 3
//	create?fieldValidation=Warn rich: .spec.bogus = 1
type request struct {
	verb        string // create or update
	subresource string
	query       string
	seed        string
	// body is the name of the body that is sent, for subresources that
	// carry another kind than the object's own.
	body    string
	changes []change
}

func (r request) String() string {
	var b strings.Builder
	b.WriteString(r.verb)
	if r.subresource != "" {
		b.WriteString("/" + r.subresource)
	}
	if r.query != "" {
		b.WriteString("?" + r.query)
	}
	b.WriteString(" " + r.seed)
	if r.body != "" {
		b.WriteString(" with " + r.body)
	}
	for i, c := range r.changes {
		b.WriteString([]string{": ", " ; "}[min(i, 1)])
		b.WriteString(c.String())
	}
	return b.String()
}

func parseRequest(line string) (request, error) {
	var r request
	head, changes, changed := strings.Cut(line, ": ")
	words := strings.Fields(head)
	switch {
	case len(words) == 2:
	case len(words) == 4 && words[2] == "with":
		r.body = words[3]
	default:
		return r, fmt.Errorf("cannot read case %q", line)
	}
	r.verb, r.query, _ = strings.Cut(words[0], "?")
	r.verb, r.subresource, _ = strings.Cut(r.verb, "/")
	r.seed = words[1]
	if !changed {
		return r, nil
	}
	var err error
	if r.changes, err = parseChanges(changes); err != nil {
		return r, fmt.Errorf("cannot read case %q: %w", line, err)
	}
	return r, nil
}

// An answer is what a server said, as far as two servers must agree.
type answer struct {
	code   int
	reason string
	// message is left out where it follows from the causes.
	message  string
	causes   []cause
	warnings []string
	// stored lists how the object that would have been stored differs from
	// what was to be expected from the request (see runner.expected).
	stored []string
}

// A cause is one error of a field.
type cause struct{ field, reason, message string }

func (c cause) String() string { return fmt.Sprintf("%s %s: %s", c.field, c.reason, c.message) }

// lines is the answer in text, without indentation.
func (a answer) lines() []string {
	ls := []string{strings.TrimSpace(fmt.Sprintf("%d %s", a.code, a.reason))}
	if a.message != "" {
		ls = append(ls, ": "+a.message)
	}
	for _, c := range a.causes {
		ls = append(ls, "! "+c.String())
	}
	for _, w := range a.warnings {
		ls = append(ls, "W "+w)
	}
	return append(ls, a.stored...)
}

func (a *answer) read(line string) error {
	if len(line) < 2 {
		return fmt.Errorf("cannot read answer line %q", line)
	}
	switch line[:2] {
	case ": ":
		a.message = line[2:]
	case "W ":
		a.warnings = append(a.warnings, line[2:])
	case "! ":
		head, message, ok := strings.Cut(line[2:], ": ")
		i := strings.LastIndexByte(head, ' ')
		if !ok || i < 0 {
			return fmt.Errorf("cannot read cause %q", line)
		}
		a.causes = append(a.causes, cause{head[:i], head[i+1:], message})
	case "+ ", "- ", "~ ":
		a.stored = append(a.stored, line)
	default:
		code, reason, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(code)
		if err != nil {
			return fmt.Errorf("cannot read answer line %q", line)
		}
		a.code, a.reason = n, reason
	}
	return nil
}

// A recorded case.
type recorded struct {
	request
	answer
}

// formatCorpus writes cases as a corpus file.
func formatCorpus(header string, cases []recorded) []byte {
	var b strings.Builder
	b.WriteString("# " + header + "\n")
	for _, c := range cases {
		b.WriteString("\n" + c.request.String() + "\n")
		for _, l := range c.lines() {
			b.WriteString("  " + l + "\n")
		}
	}
	return []byte(b.String())
}

func parseCorpus(data []byte) ([]recorded, error) {
	var cases []recorded
	for n, line := range strings.Split(string(data), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "  "):
			if len(cases) == 0 {
				return nil, fmt.Errorf("line %d: answer without a case", n+1)
			}
			if err := cases[len(cases)-1].read(line[2:]); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
		default:
			r, err := parseRequest(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
			cases = append(cases, recorded{request: r})
		}
	}
	return cases, nil
}

// A verdict says how far two answers agree.
type verdict struct {
	// differs lists what is different, a word for each part of an answer.
	differs []string
	// worded is set if only the wording of messages is different.
	worded bool
}

func (v verdict) agrees() bool { return len(v.differs) == 0 && !v.worded }

func judge(want, got answer) verdict {
	var v verdict
	say := func(differs bool, what string) {
		if differs {
			v.differs = append(v.differs, what)
		}
	}
	say(want.code != got.code, "code")
	say(want.reason != got.reason, "reason")
	places := func(a answer) []string {
		var s []string
		for _, c := range a.causes {
			s = append(s, c.field+" "+c.reason)
		}
		slices.Sort(s)
		return s
	}
	say(!slices.Equal(places(want), places(got)), "causes")
	say(!slices.Equal(want.warnings, got.warnings), "warnings")
	say(!slices.Equal(want.stored, got.stored), "stored")
	if len(v.differs) == 0 {
		v.worded = !slices.Equal(want.lines(), got.lines())
	}
	return v
}
