package kind

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/cel"
)

// Match conditions that were accepted once do not keep an object from being
// changed in other places.
func TestUnchangedConditionsStay(t *testing.T) {
	compiler := cel.NewCompiler()
	wrong := []admissionregistrationv1.MatchCondition{{Name: "a", Expression: "nothing"}}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	policy.Spec.MatchConditions = wrong
	hooks := []webhook{{name: "a.example.com", conditions: wrong}}
	const refusal = "undeclared reference to 'nothing'"
	for name, test := range map[string]struct {
		errs    field.ErrorList
		refused bool
	}{
		"policy created":  {validateValidatingPolicy(compiler, policy, nil), true},
		"policy kept":     {validateValidatingPolicy(compiler, policy, policy), false},
		"webhook created": {validateWebhooks(compiler, hooks, nil), true},
		"webhook kept":    {validateWebhooks(compiler, hooks, hooks), false},
	} {
		if got := strings.Contains(test.errs.ToAggregate().Error(), refusal); got != test.refused {
			t.Errorf("%s: %v", name, test.errs)
		}
	}
}

func TestParamVersionAndWarningRef(t *testing.T) {
	p := field.NewPath("x")
	for version, want := range map[string]string{
		"v1": "", "example.com/v1": "", "a/b/c": "unexpected GroupVersion string", "Upper/v1": "RFC 1123 subdomain", "example.com/": "version must be specified",
		"example.com/1": "a DNS-1035 label must", "": "Required value",
	} {
		told(t, version, validateParamVersion(p, version), want)
	}
	for ref, want := range map[string]string{"spec.validations[0].expression": "", "spec[": "invalid JSONPath", "": "Required value"} {
		told(t, ref, validateWarningRef(p, ref), want)
	}
}

func told(t *testing.T, value string, errs field.ErrorList, want string) {
	t.Helper()
	switch {
	case want == "" && len(errs) > 0:
		t.Errorf("%q: %v", value, errs)
	case want != "" && (len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), want)):
		t.Errorf("%q: got %v, want %s", value, errs, want)
	}
}
