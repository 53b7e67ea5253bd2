package cel

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// maxOptionalMaps is how often an expression may say optMap or optFlatMap. The
// macros repeat what they are called on: each link of a chain makes compiling
// take four times as long, 10 of them seconds. Upstream has no such limit.
const maxOptionalMaps = 8

// bounded refuses what would take too long to compile.
func bounded(expression string) error {
	if n := strings.Count(expression, "optMap") + strings.Count(expression, "optFlatMap"); n > maxOptionalMaps {
		return &Error{fmt.Sprintf("compilation failed: %d uses of optMap and optFlatMap, limit %d", n, maxOptionalMaps)}
	}
	return nil
}

// Result is what an expression has to evaluate to.
type Result int

// The results that are asked for.
const (
	Anything           Result = iota
	Bool                      // validations, match conditions
	String                    // messages
	StringOrNull              // audit annotations
	ApplyConfiguration        // an Object{…} to apply
	JSONPatches               // a list of JSONPatch{…}
)

// types returns the types that are accepted; none means any.
func (r Result) types() []*cel.Type {
	switch r {
	case Bool:
		return []*cel.Type{cel.BoolType}
	case String:
		return []*cel.Type{cel.StringType}
	case StringOrNull:
		return []*cel.Type{cel.StringType, cel.NullType}
	case ApplyConfiguration:
		return []*cel.Type{types.NewObjectType(mutation.ObjectTypeName)}
	case JSONPatches:
		return []*cel.Type{cel.ListType(types.NewObjectType(mutation.JSONPatchTypeName))}
	}
	return nil
}

func (r Result) accepts(t *cel.Type) error {
	accepted := r.types()
	for _, a := range accepted {
		if t.IsExactType(a) {
			return nil
		}
	}
	switch len(accepted) {
	case 0:
		return nil
	case 1:
		return &Error{fmt.Sprintf("must evaluate to %v but got %v", accepted[0], t)}
	}
	return &Error{fmt.Sprintf("must evaluate to one of %v but got %v", accepted, t)}
}

// An Error says what is wrong with an expression, in upstream's words.
type Error struct{ Detail string }

func (e *Error) Error() string { return e.Detail }

// A Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	cel.Program
	Output *cel.Type
}

// A Compiler makes and keeps the environments of expressions. It is safe for
// concurrent use.
type Compiler struct {
	environments [combinations]func() (*cel.Env, error)
}

// NewCompiler returns a compiler that has made no environment yet.
func NewCompiler() *Compiler {
	c := &Compiler{}
	for i := range c.environments {
		c.environments[i] = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(variablesAt(i), nil) })
	}
	return c
}

// Compile compiles an expression that uses no variables of a policy. An *Error
// is the expression's fault.
func (c *Compiler) Compile(expression string, v Variables, want Result) (*Program, error) {
	return compile(c.environments[v.index()], expression, want)
}

func compile(environment func() (*cel.Env, error), expression string, want Result) (*Program, error) {
	if err := bounded(expression); err != nil {
		return nil, err
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if issues != nil {
		return nil, &Error{"compilation failed: " + issues.String()}
	}
	if err := want.accepts(ast.OutputType()); err != nil {
		return nil, err
	}
	p, err := env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return nil, fmt.Errorf("program instantiation failed: %w", err)
	}
	return &Program{Program: p, Output: ast.OutputType()}, nil
}
