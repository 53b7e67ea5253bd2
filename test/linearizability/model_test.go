package linearizability

import (
	"fmt"
	"testing"

	"github.com/anishathalye/porcupine"
)

type verb string

const (
	get     verb = "get"
	create  verb = "create"
	update  verb = "update"  // whatever is there
	replace verb = "replace" // only the version in input.basis
	patch   verb = "patch"
	remove  verb = "delete"
)

// input is what a client asked of one object. Every value written is unique,
// so a value names a version.
type input struct {
	Object string `json:"object"`
	Verb   verb   `json:"verb"`
	Value  string `json:"value,omitempty"` // written
	Basis  string `json:"basis,omitempty"` // of replace: the version that must be there
	// Touched says that versions may have been written again unchanged
	// meanwhile, with another resourceVersion: what had been read is stale.
	Touched bool `json:"touched,omitempty"`
}

type outcome string

const (
	unknown  outcome = "unknown" // the answer never came
	done     outcome = "done"
	absent   outcome = "absent"   // 404
	exists   outcome = "exists"   // 409 on create
	conflict outcome = "conflict" // 409 on replace
)

type output struct {
	Outcome  outcome `json:"outcome"`
	Value    string  `json:"value,omitempty"`    // read
	Revision int64   `json:"revision,omitempty"` // of the version read or written
}

// register is one object that versions are written to; the state is the value
// there, "" for no object.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byObject := map[string][]porcupine.Operation{}
		for _, op := range history {
			object := op.Input.(input).Object
			byObject[object] = append(byObject[object], op)
		}
		out := make([][]porcupine.Operation, 0, len(byObject))
		for _, ops := range byObject {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) { return step(state.(string), in.(input), out.(output)) },
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		return fmt.Sprintf("%s %s%s -> %s %s@%d", i.Verb, i.Value, basis(i), o.Outcome, o.Value, o.Revision)
	},
}

func basis(i input) string {
	if i.Basis == "" {
		return ""
	}
	return " if " + i.Basis
}

// step reports whether the answer fits the state, and the state afterwards.
func step(state string, in input, out output) (bool, string) {
	there := state != ""
	next := state
	var want outcome
	switch in.Verb {
	case get:
		want = done
		if !there {
			want = absent
		}
		if out.Outcome == done && out.Value != state {
			return false, state
		}
	case create:
		want, next = done, in.Value
		if there {
			want, next = exists, state
		}
	case update, patch:
		want, next = done, in.Value
		if !there {
			want, next = absent, state
		}
	case replace:
		switch {
		case !there:
			want = absent
		case state != in.Basis || in.Touched && out.Outcome == conflict:
			want = conflict
		default:
			want, next = done, in.Value
		}
	case remove:
		want, next = done, ""
		if !there {
			want, next = absent, state
		}
	}
	// An operation without an answer did what it does at some moment, or
	// comes after everything that could have noticed.
	return out.Outcome == unknown || out.Outcome == want, next
}

func TestModel(t *testing.T) {
	const object = "o"
	op := func(call, ret int64, v verb, value, basis string, o output) porcupine.Operation {
		return porcupine.Operation{Input: input{Object: object, Verb: v, Value: value, Basis: basis}, Output: o, Call: call, Return: ret}
	}
	ok := output{Outcome: done}
	read := func(v string) output { return output{Outcome: done, Value: v} }
	const never = 1000
	for _, c := range []struct {
		name    string
		history []porcupine.Operation
		want    bool
	}{
		{"in turn", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, 4, replace, "b", "a", ok), op(5, 6, replace, "c", "a", output{Outcome: conflict}),
			op(7, 8, get, "", "", read("b")), op(9, 10, remove, "", "", ok), op(11, 12, get, "", "", output{Outcome: absent}),
		}, true},
		{"stale read", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, 4, update, "b", "", ok), op(5, 6, get, "", "", read("a")),
		}, false},
		{"read while writing", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, 7, update, "b", "", ok), op(4, 5, get, "", "", read("b")), op(6, 8, get, "", "", read("b")),
		}, true},
		{"new, then old", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, 9, update, "b", "", ok), op(4, 5, get, "", "", read("b")), op(6, 8, get, "", "", read("a")),
		}, false},
		{"lost acknowledged write", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, 4, get, "", "", output{Outcome: absent}),
		}, false},
		{"unanswered write seen", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, never, patch, "b", "", output{Outcome: unknown}), op(4, 5, get, "", "", read("a")), op(6, 7, get, "", "", read("b")),
		}, true},
		{"unanswered write never seen", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, never, patch, "b", "", output{Outcome: unknown}), op(6, 7, get, "", "", read("a")),
		}, true},
		{"unanswered write seen and gone again", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, never, patch, "b", "", output{Outcome: unknown}), op(4, 5, get, "", "", read("b")), op(6, 7, get, "", "", read("a")),
		}, false},
		{"two replaced one version", []porcupine.Operation{
			op(1, 2, create, "a", "", ok), op(3, 6, replace, "b", "a", ok), op(4, 7, replace, "c", "a", ok),
		}, false},
		{"created twice", []porcupine.Operation{
			op(1, 4, create, "a", "", ok), op(2, 3, create, "b", "", ok),
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := porcupine.CheckOperations(register, c.history); got != c.want {
				t.Errorf("linearizable: %v, want %v", got, c.want)
			}
		})
	}
}
