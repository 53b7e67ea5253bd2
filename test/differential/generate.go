package differential

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A family is a group of cases of which a file has at most so many. Where
// there are more, those with the smallest hashes stay, so that a new field
// moves few of the others.
type family struct {
	name  string
	limit int
	cases []request
}

func families() []*family {
	return []*family{
		{name: "break", limit: 100}, {name: "decode", limit: 8}, {name: "metadata", limit: 90},
		{name: "update", limit: 40}, {name: "carried", limit: 32}, {name: "body", limit: 20}, {name: "random", limit: 8}, {name: "whole", limit: 4},
	}
}

// generate makes the cases of a seed file.
func generate(f *seedFile, types *schemas) ([]request, error) {
	g := &generator{file: f, families: families(), seen: map[string]bool{}, rand: rand.New(rand.NewPCG(1, hash(f.name)))}
	if f.Limit > 0 {
		g.families[0].limit = f.Limit
		g.families[3].limit = f.Limit / 2
	}
	var cases []request
	for _, name := range f.Order {
		seed := f.Seeds[name]
		sh, err := types.of(seed)
		if err != nil {
			return nil, err
		}
		cases = append(cases, request{verb: "create", seed: name})
		g.seed = name
		g.creates(sh, seed)
		if !f.Virtual {
			g.updates(sh, seed)
		}
	}
	if err := g.bodies(types); err != nil {
		return nil, err
	}
	for _, fam := range g.families {
		cases = append(cases, pick(fam)...)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(cases, func(c request) bool {
		line := c.String()
		again := seen[line]
		seen[line] = true
		return again
	}), nil
}

func pick(f *family) []request {
	if len(f.cases) <= f.limit {
		return f.cases
	}
	order := make([]int, len(f.cases))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := hash(f.cases[a].String()), hash(f.cases[b].String())
		if x < y {
			return -1
		}
		return 1
	})
	order = order[:f.limit]
	slices.Sort(order)
	var cs []request
	for _, i := range order {
		cs = append(cs, f.cases[i])
	}
	return cs
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

type generator struct {
	file     *seedFile
	families []*family
	seed     string
	rand     *rand.Rand
	// seen are the kinds of change that the file has already, by generic
	// place: an error of the second container needs no case of its own.
	seen map[string]bool
}

func (g *generator) add(name string, r request) {
	r.seed = g.seed
	for _, f := range g.families {
		if f.name == name {
			f.cases = append(f.cases, r)
		}
	}
}

// fresh says whether the file has no such change at such a place yet.
func (g *generator) fresh(family string, p path, what string) bool {
	var b strings.Builder
	b.WriteString(family + "|")
	for _, step := range p {
		if s, ok := step.(string); ok {
			b.WriteString("." + s)
		}
	}
	key := b.String() + "|" + what
	again := g.seen[key]
	g.seen[key] = true
	return !again
}

func set(p path, v tree) change { return change{at: p, value: v} }

func (g *generator) creates(sh *shape, seed tree) {
	var pool []change
	top := []string{}
	for _, n := range sh.names() {
		if n != "metadata" && (n != "status" || g.file.Virtual) {
			top = append(top, n)
		}
	}
	for _, n := range top {
		v, _ := member(seed, n)
		g.walk(sh.member(n), v, path{n}, func(p path, sh *shape, v tree, present bool) {
			for _, c := range breakages(sh, p, v, present) {
				pool = append(pool, c.change)
				if g.fresh("create", p, c.what) {
					fam := "break"
					if c.what == "type" {
						fam = "decode"
					}
					g.add(fam, request{verb: "create", changes: []change{c.change}})
				}
			}
		})
	}
	if g.fresh("unknown", nil, "") {
		g.add("decode", request{verb: "create", changes: []change{set(path{"bogus"}, "x")}})
		if _, ok := member(seed, "spec"); ok {
			g.add("decode", request{verb: "create", changes: []change{set(path{"spec", "bogus"}, "x")}})
			g.add("decode", request{verb: "create", query: "fieldValidation=Warn", changes: []change{set(path{"spec", "bogus"}, "x")}})
		}
		for _, c := range g.metadata("create") {
			g.add("metadata", request{verb: "create", changes: c})
		}
	}
	// Two or three changes at once, and objects that owe nothing to a seed.
	if len(pool) > 2 {
		for range 8 {
			cs := []change{pool[g.rand.IntN(len(pool))], pool[g.rand.IntN(len(pool))], pool[g.rand.IntN(len(pool))]}
			if _, err := changed(clone(seed), cs); err == nil {
				g.add("random", request{verb: "create", changes: cs})
			}
		}
	}
	if g.fresh("whole", nil, "") {
		for i := range 6 {
			var cs []change
			for _, n := range top {
				if i > 0 || n == "spec" {
					cs = append(cs, set(path{n}, g.random(sh.member(n), n, 0)))
				}
			}
			g.add("whole", request{verb: "create", changes: cs})
		}
	}
}

func (g *generator) updates(sh *shape, seed tree) {
	g.add("update", request{verb: "update"})
	if g.fresh("metadata", nil, "update") {
		for _, c := range g.metadata("update") {
			g.add("metadata", request{verb: "update", changes: c})
		}
	}
	for _, n := range sh.names() {
		if n == "metadata" {
			continue
		}
		v, _ := member(seed, n)
		if n == "status" && v == nil {
			continue
		}
		g.walk(sh.member(n), v, path{n}, func(p path, sh *shape, v tree, present bool) {
			for _, c := range alterations(sh, p, v, present) {
				if n != "status" && g.fresh("update", p, c.what) {
					g.add("update", request{verb: "update", changes: []change{c.change}})
				}
				if n == "status" && g.fresh("main", path{"status"}, "") {
					g.add("carried", request{verb: "update", changes: []change{c.change}})
				}
			}
			if n == "status" && slices.Contains(g.file.Carries, "status") {
				for _, c := range breakages(sh, p, v, present) {
					if c.what != "type" && g.fresh("status", p, c.what) {
						g.add("carried", request{verb: "update", subresource: "status", changes: []change{c.change}})
					}
				}
			}
			if n == "status" {
				return
			}
			for _, sub := range g.file.Carries {
				for _, c := range alterations(sh, p, v, present) {
					limit := 3
					if sub != "status" {
						limit = 40
					}
					if g.fresh(sub, p, c.what) && g.count(sub) < limit {
						g.add("carried", request{verb: "update", subresource: sub, changes: []change{c.change}})
					}
				}
			}
		})
	}
	for _, sub := range g.file.Carries {
		if g.fresh(sub, nil, "metadata") {
			g.add("carried", request{verb: "update", subresource: sub})
			g.add("carried", request{verb: "update", subresource: sub, changes: []change{set(path{"metadata", "labels"}, map[string]any{"changed": "yes"})}})
			g.add("carried", request{verb: "update", subresource: sub, changes: []change{set(path{"metadata", "annotations"}, map[string]any{"changed": "yes"})}})
			g.add("carried", request{verb: "update", subresource: sub, changes: []change{set(path{"metadata", "finalizers"}, []any{"example.com/x"})}})
		}
	}
}

// count is how many cases there are of a subresource that carries the object.
func (g *generator) count(sub string) int {
	n := 0
	for _, f := range g.families {
		for _, c := range f.cases {
			if c.subresource == sub && len(c.changes) == 1 && c.changes[0].at[0] != "metadata" {
				n++
			}
		}
	}
	return n
}

// bodies makes the cases of subresources with bodies of their own.
func (g *generator) bodies(types *schemas) error {
	for _, sub := range slices.Sorted(maps.Keys(g.file.Bodies)) {
		verb := "create"
		if sub == "scale" {
			verb = "update"
		}
		for _, name := range slices.Sorted(maps.Keys(g.file.Bodies[sub])) {
			body := g.file.Bodies[sub][name]
			sh, err := types.of(body)
			if err != nil {
				return err
			}
			g.seed = g.file.Order[0]
			if s := text(body, "metadata", "name"); s != "" {
				for seed, obj := range g.file.Seeds {
					if text(obj, "metadata", "name") == s {
						g.seed = seed
					}
				}
			}
			g.add("body", request{verb: verb, subresource: sub, body: name})
			for _, n := range sh.names() {
				if n == "metadata" || n == "status" {
					continue
				}
				v, _ := member(body, n)
				g.walk(sh.member(n), v, path{n}, func(p path, sh *shape, v tree, present bool) {
					for _, c := range breakages(sh, p, v, present) {
						if g.fresh(sub, p, c.what) {
							g.add("body", request{verb: verb, subresource: sub, body: name, changes: []change{c.change}})
						}
					}
				})
			}
		}
	}
	return nil
}

// walk visits every place that the value has, and those beside them that it
// could have.
func (g *generator) walk(sh *shape, v tree, p path, see func(path, *shape, tree, bool)) {
	visit := func(p path, sh *shape, v tree, present bool) {
		if off := gated(); off[lastMember(p)] == "" && off[g.file.name+" "+lastMember(p)] == "" {
			see(p, sh, v, present)
		}
	}
	visit(p, sh, v, v != nil)
	switch sh.what {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		for _, n := range sh.names() {
			member := sh.member(n)
			if sub, ok := m[n]; ok {
				g.walk(member, sub, p.with(n), see)
			} else {
				visit(p.with(n), member, nil, false)
			}
		}
	case "list":
		l, _ := v.([]any)
		for i, sub := range l {
			g.walk(sh.of(), sub, p.with(i), see)
		}
	case "map":
		m, _ := v.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			g.walk(sh.of(), m[k], p.with(k), see)
			break // one stands for all
		}
	}
}

// gated lists the fields that upstream v1.36 knows and takes out, since their
// feature is off there by default.
func gated() map[string]string {
	const lists = "DRAListTypeAttributes"
	return map[string]string{
		"bools":                            lists,
		"clusterTrustBundle":               "ClusterTrustBundleProjection",
		"ints":                             lists,
		"nodeAllocatableResourceMappings":  "DRANodeAllocatableResources",
		"podCertificate":                   "PodCertificateRequest",
		"schedulingGroup":                  "GenericWorkload",
		"statefulsets.apps maxUnavailable": "MaxUnavailableStatefulSet",
		"stopSignal":                       "ContainerStopSignals",
		"strings":                          lists,
		"versions":                         lists,
	}
}

// A named is a change and the word by which it is told from others of the
// same place.
type named struct {
	what string
	change
}

// breakages are wrong values for a place, and a few odd ones that may be right.
func breakages(sh *shape, p path, v tree, present bool) []named {
	var ns []named
	add := func(what string, v tree) { ns = append(ns, named{what, set(p, v)}) }
	if present {
		ns = append(ns, named{"remove", change{at: p, remove: true}})
	}
	last := lastMember(p)
	switch sh.what {
	case "string":
		if sh.choices != nil {
			add("bogus", "Bogus")
			for _, c := range sh.choices {
				if c != v {
					add("choice "+c, c)
				}
			}
			add("empty", "")
			break
		}
		if present {
			add("empty", "")
		}
		add("format", "Not_Valid!")
		switch {
		case present:
			ns = append(ns, named{"long", change{at: p, value: "x", times: 300}})
			add("odd", "../up")
		default:
			add("plain", "plain-value")
		}
		add("type", json.Number("7"))
	case "integer", "number":
		add("negative", json.Number("-1"))
		add("zero", json.Number("0"))
		add("large", json.Number("70000"))
		if present {
			add("largest", json.Number("2147483647"))
		}
		add("type", "many")
	case "boolean":
		add("true", true)
		add("false", false)
		add("type", "yes")
	case "quantity":
		add("negative", "-1")
		add("zero", "0")
		add("fraction", "1500m")
		add("odd", "3G")
		add("type", "plenty")
	case "int-or-string":
		add("negative", json.Number("-1"))
		add("zero", json.Number("0"))
		add("large", json.Number("70000"))
		add("percent", "150%")
		add("word", "some-word")
		add("format", "Not_Valid!")
	case "time":
		add("set", "2024-01-02T03:04:05Z")
		add("type", "yesterday")
	case "bytes":
		add("set", "aGVsbG8=")
		add("type", "***")
	case "map":
		if sh.of().what == "quantity" {
			add("key", map[string]any{"bad key!": "1"})
			add("unknown", map[string]any{"wheels": "1"})
			add("extended", map[string]any{"example.com/wheels": "1500m"})
			add("huge", map[string]any{"hugepages-2Mi": "3Mi"})
		} else {
			add("key", map[string]any{"bad key!": "v"})
			add("value", map[string]any{"key": "bad value!"})
			add("prefix", map[string]any{"Bad_Prefix/key": "v"})
		}
		add("empty", map[string]any{})
		add("type", "text")
	case "list":
		if l, ok := v.([]any); ok && len(l) > 0 {
			add("twice", append(slices.Clone(l), l[0]))
			add("empty", []any{})
		}
		switch el := sh.of(); el.what {
		case "object":
			add("blank", []any{map[string]any{}})
		case "string":
			add("element", []any{"Not_Valid!"})
			add("void", []any{""})
			for _, c := range el.choices {
				add("choice "+c, []any{c})
			}
		}
		add("type", "text")
	case "object":
		if last != "spec" || len(p) > 1 {
			add("blank", map[string]any{})
		}
		add("type", "text")
	case "any":
		add("text", "text")
	}
	return slices.DeleteFunc(ns, func(n named) bool { return !n.remove && present && sameTree(n.value, v) })
}

// alterations are other values that are right by themselves.
func alterations(sh *shape, p path, v tree, present bool) []named {
	var ns []named
	add := func(what string, v tree) { ns = append(ns, named{what, set(p, v)}) }
	if present {
		ns = append(ns, named{"remove", change{at: p, remove: true}})
	}
	switch sh.what {
	case "string":
		if sh.choices != nil {
			for _, c := range sh.choices {
				if c != v {
					add("other", c)
				}
			}
			break
		}
		add("other", "changed")
	case "integer", "number":
		n := int64(3)
		if old, ok := v.(json.Number); ok {
			n, _ = strconv.ParseInt(string(old), 10, 64)
			n++
		}
		add("other", json.Number(strconv.FormatInt(n, 10)))
		if present {
			add("negative", json.Number("-1"))
		}
	case "boolean":
		add("other", v != true)
	case "quantity":
		add("other", "3")
	case "int-or-string":
		add("other", json.Number("3"))
	case "time":
		add("other", "2024-01-02T03:04:05Z")
	case "bytes":
		add("other", "Y2hhbmdlZA==")
	case "map":
		if sh.of().what == "quantity" {
			add("other", map[string]any{"cpu": "3"})
		} else {
			add("other", map[string]any{"changed": "yes"})
		}
	case "list":
		if l, ok := v.([]any); ok && len(l) > 1 {
			add("reversed", reversed(l))
		}
		if sh.of().what == "string" {
			add("other", []any{"changed"})
		}
	case "object":
		if !present {
			add("blank", map[string]any{})
		}
	}
	return slices.DeleteFunc(ns, func(n named) bool { return !n.remove && present && sameTree(n.value, v) })
}

func reversed(l []any) []any {
	l = slices.Clone(l)
	slices.Reverse(l)
	return l
}

func sameTree(a, b tree) bool { return len(compare(a, b)) == 0 }

func lastMember(p path) string {
	for _, step := range slices.Backward(p) {
		if s, ok := step.(string); ok {
			return s
		}
	}
	return ""
}

// metadata returns what is done to metadata: everything for the kinds that are
// looked at thoroughly, for the others what is known to differ between kinds.
func (g *generator) metadata(verb string) [][]change {
	m := func(name string, v tree) []change { return []change{set(path{"metadata", name}, v)} }
	owner := func(more map[string]any) []any {
		o := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "7d1f0d1c-0000-4000-8000-000000000001"}
		maps.Copy(o, more)
		return []any{o}
	}
	some := [][]change{m("finalizers", []any{"nodomain"}), m("labels", map[string]any{"bad key!": "v"}), m("generation", json.Number("5")), m("namespace", "elsewhere")}
	if verb == "create" {
		some = append(some, m("name", "Not_Valid!"), m("name", "with.dots"), m("name", "with:colon"), []change{{at: path{"metadata", "name"}, value: "x", times: 300}},
			m("name", ""), m("generateName", "prefix-"))
	} else {
		some = append(some, m("labels", map[string]any{"a.b/c": "v"}), m("annotations", map[string]any{"example.com/changed": "yes"}), m("ownerReferences", owner(nil)),
			m("deletionTimestamp", "2024-01-02T03:04:05Z"), m("name", "another"), m("resourceVersion", "1"), []change{{at: path{"metadata", "resourceVersion"}, remove: true}})
	}
	if !g.file.Metadata {
		return some
	}
	two := append(owner(map[string]any{"controller": true}), owner(map[string]any{"controller": true, "uid": "7d1f0d1c-0000-4000-8000-000000000002"})...)
	return append(some,
		m("name", "a/b"), m("name", ".."), m("uid", "another"), m("selfLink", "/x"),
		m("labels", map[string]any{"key": "bad value!"}), m("labels", map[string]any{"a.b/c": ""}), m("labels", map[string]any{"": "v"}),
		m("annotations", map[string]any{"bad key!": "v"}), m("annotations", map[string]any{"UPPER.example.com/Key": "any value!"}),
		m("finalizers", []any{"example.com/held"}), m("finalizers", []any{"Bad Finalizer"}), m("finalizers", []any{"orphan", "foregroundDeletion"}), m("finalizers", []any{"orphan"}),
		m("ownerReferences", owner(map[string]any{"uid": ""})), m("ownerReferences", owner(map[string]any{"kind": "", "name": ""})),
		m("ownerReferences", owner(map[string]any{"apiVersion": "a/b/c"})), m("ownerReferences", two), m("ownerReferences", append(owner(nil), owner(nil)...)),
		m("ownerReferences", owner(map[string]any{"apiVersion": "v1", "kind": "Event"})), m("ownerReferences", owner(map[string]any{"blockOwnerDeletion": true})),
		m("generation", json.Number("-1")), m("deletionGracePeriodSeconds", json.Number("5")), m("creationTimestamp", "2024-01-02T03:04:05Z"),
		m("managedFields", []any{map[string]any{"manager": "m", "operation": "Bogus"}}),
	)
}

// random makes a value of a shape; places deeper than a few steps stay empty.
func (g *generator) random(sh *shape, name string, depth int) tree {
	r := g.rand
	switch sh.what {
	case "string":
		if sh.choices != nil {
			return sh.choices[r.IntN(len(sh.choices))]
		}
		words := []string{"a", "web", "web-1", "example.com", "example.com/a", "/srv/data", "10.1.2.3", "10.0.0.0/24", "UPPER", "", "a b", "v1", "tcp"}
		return words[r.IntN(len(words))]
	case "integer", "number":
		ns := []string{"-1", "0", "1", "2", "30", "8080", "65536", "1000000"}
		return json.Number(ns[r.IntN(len(ns))])
	case "boolean":
		return r.IntN(2) == 0
	case "quantity":
		qs := []string{"1", "500m", "1Gi", "0", "-1", "2M"}
		return qs[r.IntN(len(qs))]
	case "int-or-string":
		vs := []tree{json.Number("1"), json.Number("0"), json.Number("80"), "http", "50%"}
		return vs[r.IntN(len(vs))]
	case "time":
		return "2024-01-02T03:04:05Z"
	case "bytes":
		return "aGVsbG8="
	case "map":
		m := map[string]any{}
		keys := []string{"app", "tier", "example.com/x", "cpu", "memory", "Bad key"}
		for range r.IntN(3) {
			m[keys[r.IntN(len(keys))]] = g.random(sh.of(), name, depth+1)
		}
		return m
	case "list":
		l := []any{}
		if depth < 7 {
			for range 1 + r.IntN(2) {
				l = append(l, g.random(sh.of(), name, depth+1))
			}
		}
		return l
	case "object":
		m := map[string]any{}
		for _, n := range sh.names() {
			needed := slices.Contains(sh.needed, n)
			if depth > 6 && !needed {
				continue
			}
			if needed && r.IntN(8) > 0 || r.IntN(3+2*depth) == 0 {
				m[n] = g.random(sh.member(n), n, depth+1)
			}
		}
		return m
	}
	return map[string]any{"a": fmt.Sprint(r.IntN(10))}
}
