package cel

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/cel-go/common/types"
)

// The wording is that of v1.36.3, from its source and from the recorded corpus.
func TestCompile(t *testing.T) {
	all := Variables{Params: true, Authorizer: true}
	patches := Variables{Authorizer: true, Patches: true}
	c := NewCompiler()
	for _, test := range []struct {
		expression string
		v          Variables
		want       Result
		wrong      string // how the refusal starts; empty: accepted
	}{
		{"object.spec.replicas <= 3", Variables{}, Bool, ""},
		{"has(oldObject.metadata) || request.operation == 'CREATE'", Variables{}, Bool, ""},
		{"namespaceObject.metadata.labels['a'] == 'b'", Variables{}, Bool, ""},
		{"namespaceObject.spec.finalizers.size() > 0 && namespaceObject.status.conditions[0].lastTransitionTime < timestamp('2024-01-02T03:04:05Z')", Variables{}, Bool, ""},
		{"request.userInfo.extra['a'].exists(v, v == 'b') && request.namespace != ''", Variables{}, Bool, ""},
		{"request.resource.group + request.kind.kind", Variables{}, String, ""},
		{"params.data.max > 3", all, Bool, ""},
		{"params.data.max > 3", Variables{}, Bool, "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'"},
		{"authorizer.group('').resource('pods').namespace('a').check('get').allowed()", all, Bool, ""},
		{"authorizer.requestResource.check('update').allowed()", all, Bool, ""},
		{"authorizer.path('/x').check('get').allowed()", Variables{}, Bool, "compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer'"},
		{"variables.x == 1", all, Bool, "compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables'"},
		{"request.userInfo.nothing == 'x'", Variables{}, Bool, "compilation failed: ERROR: <input>:1:17: undefined field 'nothing'"},
		{"request.object == null", Variables{}, Bool, "compilation failed: ERROR: <input>:1:8: undefined field 'object'"},
		{"Not_Valid!", Variables{}, Bool, "compilation failed: ERROR: <input>:1:10: Syntax error: extraneous input '!'"},
		{"object.spec.name", Variables{}, Bool, "must evaluate to bool but got dyn"},
		{"1", Variables{}, String, "must evaluate to string but got int"},
		{"true", Variables{}, StringOrNull, "must evaluate to one of [string null_type] but got bool"},
		{"null", Variables{}, StringOrNull, ""},
		{"1", Variables{}, Anything, ""},
		{"Object{spec: Object.spec{replicas: 3}}", patches, ApplyConfiguration, ""},
		{"Object{}", Variables{}, ApplyConfiguration, "compilation failed: ERROR: <input>:1:7: undeclared reference to 'Object'"},
		{"{'spec': 1}", patches, ApplyConfiguration, "must evaluate to Object but got map(string, int)"},
		{"[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y'), value: 1}]", patches, JSONPatches, ""},
		{"JSONPatch{op: 'add'}", patches, JSONPatches, "must evaluate to list(JSONPatch) but got JSONPatch"},
		{"[JSONPatch{op: 1}]", patches, JSONPatches, "compilation failed: ERROR: <input>:1:14: expected type of field 'op' is 'string' but provided type is 'int'"},
		{"isURL('https://a') && ip('10.0.0.1').isGlobalUnicast() && quantity('1Mi').isInteger()", Variables{}, Bool, ""},
		{"'a'.matches('(')", Variables{}, Bool, "compilation failed: ERROR: <input>:1:13: invalid matches argument"},
		{"[1, 'a'] == []", Variables{}, Bool, "compilation failed: ERROR: <input>:1:5: expected type 'int' but found 'string'"},
	} {
		p, err := c.Compile(test.expression, test.v, test.want)
		var wrong *Error
		switch {
		case test.wrong == "" && err != nil:
			t.Errorf("%s: %v", test.expression, err)
		case test.wrong == "" && p.Program == nil:
			t.Errorf("%s: no program", test.expression)
		case test.wrong != "" && (!errors.As(err, &wrong) || !strings.HasPrefix(wrong.Detail, test.wrong)):
			t.Errorf("%s: got %v, want %s", test.expression, err, test.wrong)
		}
	}
}

func TestScope(t *testing.T) {
	c := NewCompiler()
	s, v := c.Scope(), Variables{Authorizer: true}
	_, err := s.Compile("variables.a > 1", v, Bool)
	refused(t, err, "undefined field 'a'")
	if _, err := s.Declare("a", "1 + 1", v); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Declare("names", "['x', 'y']", v); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Declare("both", "{'k': variables.names}", v); err != nil {
		t.Fatal(err)
	}
	for _, expression := range []string{"variables.a > 1", "variables.names[0] == 'x'", "variables.both['k'][0].startsWith('x')"} {
		for _, v := range []Variables{{}, v, {Params: true, Authorizer: true, Patches: true}} {
			if _, err := s.Compile(expression, v, Bool); err != nil {
				t.Errorf("%s with %+v: %v", expression, v, err)
			}
		}
	}
	_, err = s.Compile("variables.a.startsWith('x')", v, Bool)
	refused(t, err, "found no matching overload for 'startsWith' applied to 'int.(string)'")
	_, err = s.Declare("wrong", "nothing", v)
	refused(t, err, "undeclared reference to 'nothing'")
	if _, err := s.Compile("variables.wrong.startsWith('x')", v, Bool); err != nil {
		t.Errorf("what uses a wrong variable is refused for it: %v", err)
	}
	_, err = c.Scope().Compile("variables.a > 1", v, Bool)
	refused(t, err, "undefined field 'a'")
}

func TestTypesOfVariables(t *testing.T) {
	s := NewCompiler().Scope()
	for i := range 5 * maxTypeDepth {
		expression := "1"
		if i > 0 {
			expression = fmt.Sprintf("[variables.v%d]", i-1)
		}
		p, err := s.Declare(fmt.Sprintf("v%d", i), expression, Variables{})
		if err != nil {
			t.Fatal(err)
		}
		if depth := strings.Count(p.Output.String(), "list("); depth > maxTypeDepth+1 {
			t.Fatalf("the type of variable %d is %d deep", i, depth)
		}
	}
	for _, expression := range []string{"true", "b'x'", "1.5", "duration('1s')", "1", "null", "'x'", "timestamp('2024-01-02T03:04:05Z')", "1u", "[1]", "{'a': [1]}"} {
		p, err := s.Compile(expression, Variables{}, Anything)
		if err != nil {
			t.Fatal(err)
		}
		if got := declaredType(p.Output, maxTypeDepth).CelType(); !got.IsExactType(p.Output) {
			t.Errorf("%s is of type %v and is declared as %v", expression, p.Output, got)
		}
	}
}

func TestPrograms(t *testing.T) {
	p, err := NewCompiler().Compile("object.spec.replicas <= int(params.data.max)", Variables{Params: true}, Bool)
	if err != nil {
		t.Fatal(err)
	}
	got, details, err := p.Eval(map[string]any{
		"object": map[string]any{"spec": map[string]any{"replicas": 3}}, "params": map[string]any{"data": map[string]any{"max": "5"}},
	})
	if err != nil || got != types.True {
		t.Errorf("got %v, %v", got, err)
	}
	if details.ActualCost() == nil {
		t.Error("the cost is not counted")
	}
	// A million steps is what one expression may take.
	p, err = NewCompiler().Compile("object.all(a, object.all(b, object.all(c, object.all(d, a+b+c+d >= 0))))", Variables{}, Bool)
	if err != nil {
		t.Fatal(err)
	}
	numbers := make([]int, 100)
	if _, _, err := p.Eval(map[string]any{"object": numbers}); err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Errorf("no limit: %v", err)
	}
}

func TestSelector(t *testing.T) {
	const domain = "device.attributes['gpu.example.com']"
	for _, test := range []struct{ expression, wrong string }{
		{"device.driver == 'gpu.example.com'", ""},
		{domain + ".size > 3", ""},
		{domain + ".fast", ""},
		{"device.allowMultipleAllocations", ""},
		{"cel.bind(dra, " + domain + ", dra.a && dra.b)", ""},
		{"device.capacity['gpu.example.com'].memory.compareTo(quantity('1Gi')) >= 0", ""},
		{"object.x", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'object'"},
		{"device.driver", "must evaluate to bool or the unknown type, not string"},
		{"Not_Valid!", "compilation failed: ERROR: <input>:1:10: Syntax error"},
		{"device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a == b && c == d))))", ErrTooComplex.Error()},
	} {
		s, err := CompileSelector(test.expression)
		switch {
		case test.wrong == "" && (err != nil || s.Program == nil):
			t.Errorf("%s: %v", test.expression, err)
		case test.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), test.wrong)):
			t.Errorf("%s: got %v, want %s", test.expression, err, test.wrong)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	c := NewCompiler()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := c.Compile(fmt.Sprintf("object.spec.replicas > %d", i), variablesAt(i%combinations), Bool); err != nil {
				t.Error(err)
			}
			if _, err := c.Scope().Declare("a", "object.x", variablesAt(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestBounds(t *testing.T) {
	c := NewCompiler()
	_, err := c.Compile(strings.Repeat("é", 100_001), Variables{}, Bool)
	refused(t, err, "expression code point size exceeds limit: size: 100001, limit 100000")
	_, err = c.Compile(strings.Repeat("(", 1000)+"1"+strings.Repeat(")", 1000), Variables{}, Anything)
	refused(t, err, "recursion limit exceeded: 250")
	chain := "optional.of(1)" + strings.Repeat(".optMap(x, x)", 30)
	_, err = c.Compile(chain, Variables{}, Anything)
	refused(t, err, "30 uses of optMap and optFlatMap, limit 8")
	_, err = CompileSelector(chain)
	refused(t, err, "30 uses of optMap and optFlatMap, limit 8")
}

func refused(t *testing.T, err error, words string) {
	t.Helper()
	var wrong *Error
	if !errors.As(err, &wrong) || !strings.Contains(wrong.Detail, words) {
		t.Errorf("got %v, want %s", err, words)
	}
}

// No expression that a client can send may panic or take longer to compile than
// a request may last.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"object.spec.replicas <= variables.max", "[JSONPatch{op: 'add', path: '/a', value: 1}]", "Object{spec: Object.spec{replicas: 3}}",
		"authorizer.group('').check('get').allowed()", "a.?b.optMap(x, x).orValue(1)", "[1, 2].map(x, x > 1, x * 2).exists_one(i, v, v == i)",
		"cel.bind(a, device.attributes['x'], a.b)", "'%s'.format([1])", "b'\\xff' == r'\\x' ? {1: 2u, -3: 1e9} : dyn(null)", "type(1) == int",
		"google.protobuf.Int32Value{value: 1}", "has(object.a) && !(1 in [1.5]) || \"\"\"x\"\"\".matches('[a')",
	} {
		f.Add(s, uint8(7))
	}
	c := NewCompiler()
	f.Fuzz(func(t *testing.T, expression string, bits uint8) {
		start := time.Now()
		v := variablesAt(int(bits) % combinations)
		s := c.Scope()
		_, _ = s.Declare("max", expression, v)
		_, _ = s.Compile(expression, v, Bool)
		_, _ = CompileSelector(expression)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%d bytes took %v", len(expression), took)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	const expression = "object.spec.replicas <= int(params.data.max)"
	v := Variables{Params: true, Authorizer: true}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := NewCompiler().Compile(expression, v, Bool); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		c := NewCompiler()
		for b.Loop() {
			if _, err := c.Compile(expression, v, Bool); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scope", func(b *testing.B) {
		b.ReportAllocs()
		c := NewCompiler()
		for b.Loop() {
			if _, err := c.Scope().Declare("a", expression, v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
