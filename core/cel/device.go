package cel

import (
	"errors"

	resourcev1 "k8s.io/api/resource/v1"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	dracel "k8s.io/dynamic-resource-allocation/cel"
)

// ErrTooComplex is the refusal of a selector that might cost more than a
// scheduler can spend on a device.
var ErrTooComplex = errors.New("too complex, exceeds cost limit")

// A Selector is a compiled selector of devices. It is safe for concurrent use.
type Selector struct{ dracel.CompilationResult }

// CompileSelector compiles an expression that selects devices. An *Error is the
// expression's fault; so is ErrTooComplex. The environment is made at the first
// call and kept by upstream's package.
func CompileSelector(expression string) (*Selector, error) {
	if err := bounded(expression); err != nil {
		return nil, err
	}
	written := environment.NewExpressions
	r := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true}).
		CompileCELExpression(expression, dracel.Options{EnvType: &written})
	switch {
	case r.Error != nil && r.Error.Type == apicel.ErrorTypeInvalid:
		return nil, &Error{r.Error.Detail}
	case r.Error != nil:
		return nil, r.Error
	case r.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		return nil, ErrTooComplex
	}
	return &Selector{r}, nil
}
