package kind

import (
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Expressions are not compiled here: a policy with a wrong one is accepted and
// fails as its failurePolicy says when it is evaluated.

func validatingAdmissionPolicyKind(gv schema.GroupVersion) *Kind {
	type policy = admissionregistrationv1.ValidatingAdmissionPolicy
	k := define[policy, admissionregistrationv1.ValidatingAdmissionPolicyList](gv, "validatingadmissionpolicies").inCluster()
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(p *policy) {
		orPointer(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	})
	k.PrepareCreate = do1(func(p *policy) {
		p.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{}
		p.Generation = 1
	})
	k.PrepareUpdate = do2(func(p, old *policy) {
		p.Status = *old.Status.DeepCopy()
		raise(p, old, &p.Spec, &old.Spec)
	})
	validate := func(pol *policy) field.ErrorList {
		p, s := field.NewPath("spec"), &pol.Spec
		errs := validateMatch(p.Child("matchConstraints"), s.MatchConstraints)
		errs = append(errs, validateConditions(p.Child("matchConditions"), s.MatchConditions)...)
		if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
			errs = append(errs,
				field.Required(p.Child("validations"), "validations or auditAnnotations must be non-empty"),
				field.Required(p.Child("auditAnnotations"), "validations or auditAnnotations must be non-empty"))
		}
		for i, v := range s.Validations {
			errs = append(errs, required(p.Child("validations").Index(i).Child("expression"), v.Expression, nil)...)
		}
		for i, a := range s.AuditAnnotations {
			errs = append(errs, required(p.Child("auditAnnotations").Index(i).Child("key"), a.Key, nil)...)
			errs = append(errs, required(p.Child("auditAnnotations").Index(i).Child("valueExpression"), a.ValueExpression, nil)...)
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(p, _ *policy) field.ErrorList { return validate(p) })
	k.Columns = named[*policy]().
		count("Validations", "Validations indicates the number of validation rules defined in this configuration", func(p *policy) int64 { return int64(len(p.Spec.Validations)) }).
		text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(p *policy) string { return paramKind(p.Spec.ParamKind) }).
		age()
	k.Subresources = []Subresource{status(func(p, old *policy) {
		p.Spec = *old.Spec.DeepCopy()
		p.Generation = old.Generation
	}, nil)}
	return k
}

func paramKind(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

func mutatingAdmissionPolicyKind(gv schema.GroupVersion) *Kind {
	type policy = admissionregistrationv1.MutatingAdmissionPolicy
	k := define[policy, admissionregistrationv1.MutatingAdmissionPolicyList](gv, "mutatingadmissionpolicies").inCluster()
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(p *policy) {
		orPointer(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		orElse(&p.Spec.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
		defaultMatch(p.Spec.MatchConstraints)
	})
	k.PrepareCreate = do1(func(p *policy) { p.Generation = 1 })
	k.PrepareUpdate = do2(func(p, old *policy) { raise(p, old, &p.Spec, &old.Spec) })
	validate := func(pol *policy) field.ErrorList {
		p, s := field.NewPath("spec"), &pol.Spec
		errs := validateMatch(p.Child("matchConstraints"), s.MatchConstraints)
		errs = append(errs, validateConditions(p.Child("matchConditions"), s.MatchConditions)...)
		if len(s.Mutations) == 0 {
			errs = append(errs, field.Required(p.Child("mutations"), "mutations must contain at least one item"))
		}
		for i, m := range s.Mutations {
			at := p.Child("mutations").Index(i)
			errs = append(errs, oneOf(at.Child("patchType"), m.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)...)
			if (m.ApplyConfiguration == nil) == (m.JSONPatch == nil) {
				errs = append(errs, field.Required(at, "exactly one of applyConfiguration or jsonPatch is required"))
			}
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(p, _ *policy) field.ErrorList { return validate(p) })
	k.Columns = named[*policy]().
		count("Mutations", "Mutations indicates the number of mutation rules defined in this configuration", func(p *policy) int64 { return int64(len(p.Spec.Mutations)) }).
		text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(p *policy) string { return paramKind(p.Spec.ParamKind) }).
		age()
	return k
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	orPointer(&m.NamespaceSelector, metav1.LabelSelector{})
	orPointer(&m.ObjectSelector, metav1.LabelSelector{})
	orPointer(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			orPointer(&rules[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}

func validateMatch(p *field.Path, m *admissionregistrationv1.MatchResources) field.ErrorList {
	if m == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	var errs field.ErrorList
	if len(m.ResourceRules) == 0 {
		errs = append(errs, field.Required(p.Child("resourceRules"), ""))
	}
	for i := range m.ResourceRules {
		errs = append(errs, validateRule(p.Child("resourceRules").Index(i), &m.ResourceRules[i].RuleWithOperations)...)
	}
	for i := range m.ExcludeResourceRules {
		errs = append(errs, validateRule(p.Child("excludeResourceRules").Index(i), &m.ExcludeResourceRules[i].RuleWithOperations)...)
	}
	errs = append(errs, validateSelector(p.Child("namespaceSelector"), m.NamespaceSelector)...)
	return append(errs, validateSelector(p.Child("objectSelector"), m.ObjectSelector)...)
}

func validatingAdmissionPolicyBindingKind(gv schema.GroupVersion) *Kind {
	type binding = admissionregistrationv1.ValidatingAdmissionPolicyBinding
	k := define[binding, admissionregistrationv1.ValidatingAdmissionPolicyBindingList](gv, "validatingadmissionpolicybindings").inCluster()
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(b *binding) { defaultMatch(b.Spec.MatchResources) })
	k.PrepareCreate = do1(func(b *binding) { b.Generation = 1 })
	k.PrepareUpdate = do2(func(b, old *binding) { raise(b, old, &b.Spec, &old.Spec) })
	validate := func(b *binding) field.ErrorList {
		p := field.NewPath("spec")
		errs := required(p.Child("policyName"), b.Spec.PolicyName, subdomain)
		errs = append(errs, validateParamRef(p.Child("paramRef"), b.Spec.ParamRef)...)
		if len(b.Spec.ValidationActions) == 0 {
			errs = append(errs, field.Required(p.Child("validationActions"), "at least one validation action is required"))
		}
		seen := map[admissionregistrationv1.ValidationAction]bool{}
		for i, a := range b.Spec.ValidationActions {
			errs = append(errs, supported(p.Child("validationActions").Index(i), a, admissionregistrationv1.Deny, admissionregistrationv1.Warn, admissionregistrationv1.Audit)...)
			if seen[a] {
				errs = append(errs, field.Duplicate(p.Child("validationActions").Index(i), a))
			}
			seen[a] = true
		}
		if seen[admissionregistrationv1.Deny] && seen[admissionregistrationv1.Warn] {
			errs = append(errs, field.Invalid(p.Child("validationActions"), b.Spec.ValidationActions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(b, _ *binding) field.ErrorList { return validate(b) })
	k.Columns = policyBindingColumns(func(b *binding) (string, *admissionregistrationv1.ParamRef) {
		return b.Spec.PolicyName, b.Spec.ParamRef
	})
	return k
}

func mutatingAdmissionPolicyBindingKind(gv schema.GroupVersion) *Kind {
	type binding = admissionregistrationv1.MutatingAdmissionPolicyBinding
	k := define[binding, admissionregistrationv1.MutatingAdmissionPolicyBindingList](gv, "mutatingadmissionpolicybindings").inCluster()
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(b *binding) { defaultMatch(b.Spec.MatchResources) })
	k.PrepareCreate = do1(func(b *binding) { b.Generation = 1 })
	k.PrepareUpdate = do2(func(b, old *binding) { raise(b, old, &b.Spec, &old.Spec) })
	validate := func(b *binding) field.ErrorList {
		p := field.NewPath("spec")
		errs := required(p.Child("policyName"), b.Spec.PolicyName, subdomain)
		return append(errs, validateParamRef(p.Child("paramRef"), b.Spec.ParamRef)...)
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(b, _ *binding) field.ErrorList { return validate(b) })
	k.Columns = policyBindingColumns(func(b *binding) (string, *admissionregistrationv1.ParamRef) {
		return b.Spec.PolicyName, b.Spec.ParamRef
	})
	return k
}

func validateParamRef(p *field.Path, r *admissionregistrationv1.ParamRef) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	switch {
	case r.Name == "" && r.Selector == nil:
		errs = append(errs, field.Required(p, "one of name or selector must be specified"))
	case r.Name != "" && r.Selector != nil:
		errs = append(errs, field.Forbidden(p.Child("name"), "name and selector are mutually exclusive"))
	}
	if r.ParameterNotFoundAction == nil {
		return append(errs, field.Required(p.Child("parameterNotFoundAction"), ""))
	}
	return append(errs, supported(p.Child("parameterNotFoundAction"), *r.ParameterNotFoundAction, admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction)...)
}

func policyBindingColumns[T Object](of func(T) (string, *admissionregistrationv1.ParamRef)) []Column {
	return named[T]().
		text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to", func(t T) string {
			name, _ := of(t)
			return name
		}).
		text("ParamRef", "ParamRef indicates the param resource which sets the configration param", func(t T) string {
			_, r := of(t)
			switch {
			case r == nil:
				return "<unset>"
			case r.Selector != nil:
				return selectorText(r.Selector)
			case r.Namespace != "":
				return fmt.Sprintf("%s/%s", r.Namespace, r.Name)
			}
			return r.Name
		}).
		age()
}
