package kind

import (
	"errors"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/cel"
)

// wrongExpression is the refusal of what could not be compiled. shown is the
// expression as the client wrote it.
func wrongExpression(p *field.Path, shown string, err error) field.ErrorList {
	var wrong *cel.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return field.ErrorList{field.Invalid(p, shown, wrong.Detail)}
	}
	return field.ErrorList{field.InternalError(p, err)}
}

// policyExpressions compiles the expressions of a policy.
type policyExpressions struct {
	// compile is that of the policy's scope, or of the compiler where the
	// policy has no variables.
	compile func(expression string, v cel.Variables, want cel.Result) (*cel.Program, error)
	// params tells that the policy has a paramKind, patches that it mutates.
	params, patches bool
}

func (x policyExpressions) variables() cel.Variables {
	return cel.Variables{Params: x.params, Authorizer: true, Patches: x.patches}
}

func (x policyExpressions) check(p *field.Path, expression string, want cel.Result) field.ErrorList {
	_, err := x.compile(expression, x.variables(), want)
	return wrongExpression(p, expression, err)
}

// checkMessage checks an expression that makes a message: it may not ask the
// authorizer.
func (x policyExpressions) checkMessage(p *field.Path, expression string) field.ErrorList {
	if strings.TrimSpace(expression) == "" {
		return field.ErrorList{field.Invalid(p, expression, "must be non-empty if specified")}
	}
	_, err := x.compile(expression, cel.Variables{Params: x.params}, cel.String)
	return wrongExpression(p, expression, err)
}

// validateVariables checks the variables of a policy and declares them in scope.
func validateVariables(p *field.Path, variables []admissionregistrationv1.Variable, scope *cel.Scope, params bool) field.ErrorList {
	var errs field.ErrorList
	for i, v := range variables {
		at := p.Index(i)
		switch {
		case strings.TrimSpace(v.Name) == "":
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		case !isCELIdentifier(v.Name):
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
			continue
		}
		_, err := scope.Declare(v.Name, v.Expression, cel.Variables{Params: params, Authorizer: true})
		errs = append(errs, wrongExpression(at.Child("expression"), v.Expression, err)...)
	}
	return errs
}

// isCELIdentifier reports whether CEL's grammar takes name as an identifier.
func isCELIdentifier(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	switch name {
	case "", "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
		"package", "namespace", "return", "var", "void", "while":
		return false
	}
	return true
}

// maxConditions is how many match conditions there may be.
const maxConditions = 64

// validateConditions checks match conditions, which see no variables of a
// policy. params tells whether they may use its params.
func validateConditions(p *field.Path, conditions []admissionregistrationv1.MatchCondition, compiler *cel.Compiler, params bool) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	if len(conditions) > maxConditions {
		errs = append(errs, field.TooMany(p, len(conditions), maxConditions))
	}
	for i, c := range conditions {
		name, at := p.Index(i).Child("name"), p.Index(i).Child("expression")
		errs = append(errs, required(name, c.Name, validation.IsQualifiedName)...)
		if expression := strings.TrimSpace(c.Expression); expression == "" {
			errs = append(errs, field.Required(at, ""))
		} else {
			_, err := compiler.Compile(expression, cel.Variables{Params: params, Authorizer: true}, cel.Bool)
			errs = append(errs, wrongExpression(at, expression, err)...)
		}
		if c.Name != "" && names[c.Name] {
			errs = append(errs, field.Duplicate(name, c.Name))
		}
		names[c.Name] = true
	}
	return errs
}

// sameConditions reports whether the match conditions of a policy mean what
// they meant: they stay as they are, in whatever language they were accepted.
func sameConditions(param, oldParam *admissionregistrationv1.ParamKind, conditions, old []admissionregistrationv1.MatchCondition) bool {
	return apiequality.Semantic.DeepEqual(param, oldParam) && apiequality.Semantic.DeepEqual(conditions, old)
}
