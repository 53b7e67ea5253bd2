package linearizability

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkWithin bounds the search for an order of one round's operations.
const checkWithin = time.Minute

// check returns what is wrong with a finished history.
func (h *history) check() (problems []string) {
	for _, f := range []func(func(string, ...any)){h.checkVersions, h.checkRealTime, h.checkWatches, h.checkLists} {
		f(func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) })
	}
	if got := porcupine.CheckOperationsTimeout(register, h.operations, checkWithin); got != porcupine.Ok {
		problems = append(problems, "linearizability: "+string(got))
	}
	return problems
}

// finish gives operations without an answer all the time there is.
func (h *history) finish() {
	end := h.now()
	for i := range h.operations {
		if h.operations[i].Output.(output).Outcome == unknown {
			h.operations[i].Return = end
		}
	}
}

// checkVersions: a value was written once, so it has one revision, unless
// values were written again unchanged.
func (h *history) checkVersions(wrong func(string, ...any)) {
	revisions := map[string]int64{}
	see := func(where, value string, revision int64) {
		if value == "" || revision == 0 {
			return
		}
		if old, ok := revisions[value]; ok && old != revision && !h.touched {
			wrong("version %s is of revision %d and, says %s, of %d", value, old, where, revision)
		}
		revisions[value] = revision
	}
	for _, op := range h.operations {
		in, out := op.Input.(input), op.Output.(output)
		see(string(in.Verb), cmp.Or(out.Value, in.Value), out.Revision)
	}
	for _, l := range h.lists {
		for _, v := range l.Objects {
			see("list", v.Value, v.Revision)
		}
	}
	for _, w := range h.watches {
		for _, ev := range w.Events {
			if ev.Type != "DELETED" {
				see("watch", ev.Value, ev.Revision)
			}
		}
	}
}

// checkRealTime: what was written after an answer has a higher revision than
// the answer, and a list asked for after it shows at least that revision.
func (h *history) checkRealTime(wrong func(string, ...any)) {
	type answer struct{ at, revision int64 }
	var answers []answer
	for _, op := range h.operations {
		if out := op.Output.(output); out.Revision > 0 {
			answers = append(answers, answer{op.Return, out.Revision})
		}
	}
	for _, l := range h.lists {
		answers = append(answers, answer{l.Return, l.Revision})
	}
	slices.SortFunc(answers, func(a, b answer) int { return cmp.Compare(a.at, b.at) })
	for i := 1; i < len(answers); i++ {
		answers[i].revision = max(answers[i].revision, answers[i-1].revision)
	}
	before := func(at int64) int64 {
		i, _ := slices.BinarySearchFunc(answers, at, func(a answer, at int64) int { return cmp.Compare(a.at, at) })
		if i == 0 {
			return 0
		}
		return answers[i-1].revision
	}
	for _, op := range h.operations {
		in, out := op.Input.(input), op.Output.(output)
		if in.Verb != get && out.Revision > 0 && out.Revision <= before(op.Call) {
			wrong("%s of %s wrote revision %d after revision %d had been told", in.Verb, in.Object, out.Revision, before(op.Call))
		}
	}
	for _, l := range h.lists {
		if l.Revision < before(l.Call) {
			wrong("list of %s is of revision %d after revision %d had been told", l.Kind, l.Revision, before(l.Call))
		}
	}
}

// checkWatches: a watch goes up, makes sense, invents nothing and shows every
// acknowledged write.
func (h *history) checkWatches(wrong func(string, ...any)) {
	asked := map[string]bool{}
	for _, op := range h.operations {
		in := op.Input.(input)
		asked[in.Object+" "+in.Value] = true
	}
	for _, w := range h.watches {
		now, last := maps.Clone(w.Base.Objects), w.Base.Revision
		shown := map[int64]change{}
		for _, ev := range w.Events {
			if ev.Revision <= last {
				wrong("watch shows revision %d after %d", ev.Revision, last)
			}
			last = ev.Revision
			_, there := now[ev.Object]
			if there != (ev.Type != "ADDED") {
				wrong("watch shows %s of %s at revision %d, and the object was there before: %v", ev.Type, ev.Object, ev.Revision, there)
			}
			if ev.Type == "DELETED" {
				if now[ev.Object].Value != ev.Value {
					wrong("watch shows the end of %s with version %s at revision %d, the last was %s", ev.Object, ev.Value, ev.Revision, now[ev.Object].Value)
				}
				delete(now, ev.Object)
			} else {
				now[ev.Object] = ev.version
				if !asked[ev.Object+" "+ev.Value] {
					wrong("watch shows version %s of %s, which nobody wrote", ev.Value, ev.Object)
				}
			}
			shown[ev.Revision] = ev
		}
		for _, op := range h.operations {
			in, out := op.Input.(input), op.Output.(output)
			if in.Verb == get || out.Revision <= w.Base.Revision || out.Revision > last || !strings.HasPrefix(in.Object, w.Base.Kind+"/") {
				continue
			}
			if ev := shown[out.Revision]; ev.Object != in.Object || ev.Value != in.Value {
				wrong("acknowledged %s of %s (version %s, revision %d) is %+v in the watch from %d to %d", in.Verb, in.Object, in.Value, out.Revision, ev, w.Base.Revision, last)
			}
		}
	}
}

// checkLists: a list is what there was at its revision.
func (h *history) checkLists(wrong func(string, ...any)) {
	for _, l := range h.lists {
		for _, w := range h.watches {
			if w.Base.Kind != l.Kind || l.Revision < w.Base.Revision || l.Revision > w.through {
				continue
			}
			if want := w.at(l.Revision); !maps.Equal(l.Objects, want) {
				wrong("list of %s at revision %d shows %v, the watch from %d says %v", l.Kind, l.Revision, l.Objects, w.Base.Revision, want)
			}
		}
	}
}

// keep writes the history and its picture to dir and returns their names.
func (h *history) keep(t *testing.T, dir string) []string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, fmt.Sprintf("round-%d", h.round))
	type operation struct {
		Client int    `json:"client"`
		Call   int64  `json:"call"`
		Return int64  `json:"return"`
		Input  input  `json:"input"`
		Output output `json:"output"`
	}
	var ops []operation
	for _, op := range h.operations {
		ops = append(ops, operation{op.ClientId, op.Call, op.Return, op.Input.(input), op.Output.(output)})
	}
	b, err := json.MarshalIndent(map[string]any{"operations": ops, "lists": h.lists, "watches": h.watches}, "", " ")
	if err == nil {
		err = os.WriteFile(name+".json", b, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
	_, info := porcupine.CheckOperationsVerbose(register, h.operations, checkWithin)
	if err := porcupine.VisualizePath(register, info, name+".html"); err != nil {
		t.Error(err)
	}
	return []string{name + ".json", name + ".html"}
}

// TestCheckFindsWhatIsWrong breaks a good history in every way.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	const object = "configmaps/r1-0"
	good := func() *history {
		h := newHistory(1)
		op := func(call, ret int64, v verb, value string, out output) {
			h.operations = append(h.operations, porcupine.Operation{Input: input{Object: object, Verb: v, Value: value}, Output: out, Call: call, Return: ret})
		}
		op(1, 2, create, "a", output{done, "", 11})
		op(3, 4, update, "b", output{done, "", 12})
		op(5, 6, get, "", output{done, "b", 12})
		h.lists = []listing{{Kind: "configmaps", Call: 7, Return: 8, Revision: 12, Objects: map[string]version{object: {"b", 12}}}}
		h.watches = []*watched{{
			Base:    listing{Kind: "configmaps", Revision: 10, Objects: map[string]version{}},
			Events:  []change{{"ADDED", object, version{"a", 11}}, {"MODIFIED", object, version{"b", 12}}},
			through: 12,
		}}
		return h
	}
	if problems := good().check(); len(problems) > 0 {
		t.Fatalf("good history: %v", problems)
	}
	for name, breakIt := range map[string]func(*history){
		"nobody wrote":                    func(h *history) { h.watches[0].Events[0].Value = "x" },
		"is of revision":                  func(h *history) { h.lists[0].Objects[object] = version{"b", 9} },
		"after revision 12 had been told": func(h *history) { h.lists[0].Revision = 11 },
		"wrote revision 9 after":          func(h *history) { h.operations[1].Output = output{done, "", 9} },
		"acknowledged":                    func(h *history) { h.watches[0].Events = slices.Delete(h.watches[0].Events, 0, 1) },
		"there before: true":              func(h *history) { h.watches[0].Events[1].Type = "ADDED" },
		"watch shows revision":            func(h *history) { slices.Reverse(h.watches[0].Events) },
		"with version":                    func(h *history) { h.watches[0].Events[1] = change{"DELETED", object, version{"b", 12}} },
		"the watch from 10 says":          func(h *history) { delete(h.lists[0].Objects, object) },
		"linearizability: Illegal":        func(h *history) { h.operations[2].Output = output{done, "a", 11} },
	} {
		h := good()
		breakIt(h)
		if problems := strings.Join(h.check(), "\n"); !strings.Contains(problems, name) {
			t.Errorf("want %q, got %q", name, problems)
		}
	}
}
