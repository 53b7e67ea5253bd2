package cel

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	apicel "k8s.io/apiserver/pkg/cel"
)

// maxTypeDepth is how deep the type of a variable is known. A chain of
// variables, each a list of the one before, would nest without an end.
const maxTypeDepth = 32

// A Scope holds the variables of one policy. It is not safe for concurrent use;
// the programs compiled in it are.
type Scope struct {
	variables    *apicel.DeclType
	environments [combinations]*cel.Env
}

// Scope returns a scope in which no variable is declared yet.
func (c *Compiler) Scope() *Scope {
	return &Scope{variables: apicel.NewObjectType("kubernetes.variables", map[string]*apicel.DeclField{})}
}

// Declare compiles a variable, which the expressions after it may use. A wrong
// one is declared as well, of any type: those that use it are not wrong for it.
func (s *Scope) Declare(name, expression string, v Variables) (*Program, error) {
	p, err := s.Compile(expression, v, Anything)
	t := apicel.DynType
	if err == nil {
		t = declaredType(p.Output, maxTypeDepth)
	}
	s.variables.Fields[name] = apicel.NewDeclField(name, t, true, nil, nil)
	return p, err
}

// Compile compiles an expression that may use the variables declared so far.
func (s *Scope) Compile(expression string, v Variables, want Result) (*Program, error) {
	return compile(func() (*cel.Env, error) { return s.environment(v) }, expression, want)
}

// environment makes each combination once: it reads the fields of variables
// anew for every expression.
func (s *Scope) environment(v Variables) (*cel.Env, error) {
	i := v.index()
	if s.environments[i] == nil {
		env, err := newEnvironment(v, s.variables)
		if err != nil {
			return nil, err
		}
		s.environments[i] = env
	}
	return s.environments[i], nil
}

// declaredType is what is known about t to the expressions that use it.
func declaredType(t *cel.Type, depth int) *apicel.DeclType {
	if depth == 0 {
		return apicel.DynType
	}
	switch t.Kind() {
	case types.BoolKind:
		return apicel.BoolType
	case types.BytesKind:
		return apicel.BytesType
	case types.DoubleKind:
		return apicel.DoubleType
	case types.DurationKind:
		return apicel.DurationType
	case types.IntKind:
		return apicel.IntType
	case types.NullTypeKind:
		return apicel.NullType
	case types.StringKind:
		return apicel.StringType
	case types.TimestampKind:
		return apicel.TimestampType
	case types.UintKind:
		return apicel.UintType
	case types.AnyKind:
		return apicel.AnyType
	case types.ListKind:
		return apicel.NewListType(declaredType(t.Parameters()[0], depth-1), -1)
	case types.MapKind:
		return apicel.NewMapType(declaredType(t.Parameters()[0], depth-1), declaredType(t.Parameters()[1], depth-1), -1)
	}
	return apicel.DynType
}
