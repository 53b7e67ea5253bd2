package kind

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"

	"binnacle.io/core/cel"
)

func validatingAdmissionPolicyKind(gv schema.GroupVersion, compiler *cel.Compiler) *Kind {
	type policy = admissionregistrationv1.ValidatingAdmissionPolicy
	k := define[policy, admissionregistrationv1.ValidatingAdmissionPolicyList](gv, "validatingadmissionpolicies").inCluster()
	k.AnyFinalizer = true
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
	k.Validate = check1(func(p *policy) field.ErrorList { return validateValidatingPolicy(compiler, p, nil) })
	k.ValidateUpdate = check2(func(p, old *policy) field.ErrorList { return validateValidatingPolicy(compiler, p, old) })
	k.Columns = named[*policy]().
		count("Validations", "Validations indicates the number of validation rules defined in this configuration", func(p *policy) int64 { return int64(len(p.Spec.Validations)) }).
		text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(p *policy) string { return paramKind(p.Spec.ParamKind) }).
		age()
	k.Subresources = []Subresource{status(func(p, old *policy) {
		p.Spec = *old.Spec.DeepCopy()
		metav1.ResetObjectMetaForStatus(p, old)
	}, func(p, _ *policy) field.ErrorList { return validatePolicyStatus(&p.Status) })}
	return k
}

// validateValidatingPolicy checks a policy. old is nil for a new one.
func validateValidatingPolicy(compiler *cel.Compiler, pol, old *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	p, s := field.NewPath("spec"), &pol.Spec
	errs := validatePolicyMatch(p.Child("matchConstraints"), s.MatchConstraints)
	errs = append(errs, validatePolicyCommon(p, s.FailurePolicy, s.ParamKind)...)
	if old == nil || !sameConditions(s.ParamKind, old.Spec.ParamKind, s.MatchConditions, old.Spec.MatchConditions) {
		errs = append(errs, validateConditions(p.Child("matchConditions"), s.MatchConditions, compiler, s.ParamKind != nil)...)
	}
	x := policyExpressions{compile: compiler.Compile, params: s.ParamKind != nil}
	if len(s.Variables) > 0 {
		scope := compiler.Scope()
		x.compile = scope.Compile
		errs = append(errs, validateVariables(p.Child("variables"), s.Variables, scope, x.params)...)
	}
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		const either = "validations or auditAnnotations must contain at least one item"
		errs = append(errs, field.Required(p.Child("validations"), either), field.Required(p.Child("auditAnnotations"), either))
	}
	for i := range s.Validations {
		v, at := &s.Validations[i], p.Child("validations").Index(i)
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
		} else {
			errs = append(errs, x.check(at.Child("expression"), v.Expression, cel.Bool)...)
		}
		if v.MessageExpression != "" {
			errs = append(errs, x.checkMessage(at.Child("messageExpression"), v.MessageExpression)...)
		}
		errs = append(errs, validateMessage(at.Child("message"), v.Message)...)
		if v.Reason != nil {
			errs = append(errs, supported(at.Child("reason"), *v.Reason, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)...)
		}
	}
	return append(errs, validateAuditAnnotations(p.Child("auditAnnotations"), pol.Name, s.AuditAnnotations, x)...)
}

func validateMessage(p *field.Path, message string) field.ErrorList {
	switch {
	case message == "":
	case strings.TrimSpace(message) == "":
		return field.ErrorList{field.Invalid(p, message, "message must be non-empty if specified")}
	case strings.ContainsAny(message, "\n\r"):
		return field.ErrorList{field.Invalid(p, message, "message must not contain line breaks")}
	}
	return nil
}

// The bounds of audit annotations: their number, and the bytes of an expression.
const (
	maxAuditAnnotations = 20
	maxValueExpression  = 5 << 10
)

func validateAuditAnnotations(p *field.Path, policy string, list []admissionregistrationv1.AuditAnnotation, x policyExpressions) field.ErrorList {
	var errs field.ErrorList
	if len(list) > maxAuditAnnotations {
		errs = append(errs, field.Invalid(p, list, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations)))
	}
	keys := map[string]bool{}
	for i, a := range list {
		at := p.Index(i)
		key := a.Key
		if policy == "" {
			errs = append(errs, field.Invalid(at.Child("key"), key, "requires metadata.name be non-empty"))
		} else {
			key = policy + "/" + a.Key
			errs = append(errs, invalids(at.Child("key"), key, validation.IsQualifiedName(key))...)
		}
		switch v := strings.TrimSpace(a.ValueExpression); {
		case v == "":
			errs = append(errs, field.Required(at.Child("valueExpression"), "valueExpression is not specified"))
		case len(v) > maxValueExpression:
			errs = append(errs, field.Required(at.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxValueExpression)))
		default:
			_, err := x.compile(v, x.variables(), cel.StringOrNull)
			errs = append(errs, wrongExpression(at.Child("valueExpression"), a.ValueExpression, err)...)
		}
		if keys[a.Key] {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		keys[a.Key] = true
	}
	return errs
}

// validatePolicyCommon checks what both kinds of policies have.
func validatePolicyCommon(p *field.Path, failure *admissionregistrationv1.FailurePolicyType, param *admissionregistrationv1.ParamKind) field.ErrorList {
	var errs field.ErrorList
	if failure != nil {
		errs = append(errs, supported(p.Child("failurePolicy"), *failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	}
	if param != nil {
		at := p.Child("paramKind")
		errs = append(errs, validateParamVersion(at.Child("apiVersion"), param.APIVersion)...)
		if param.Kind == "" {
			errs = append(errs, field.Required(at.Child("kind"), ""))
		} else if bad := validation.IsDNS1035Label(strings.ToLower(param.Kind)); len(bad) > 0 {
			errs = append(errs, field.Invalid(at.Child("kind"), param.Kind, "may have mixed case, but should otherwise match: "+strings.Join(bad, ",")))
		}
	}
	return errs
}

func validateParamVersion(p *field.Path, version string) field.ErrorList {
	if version == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		return field.ErrorList{field.Invalid(p, version, err.Error())}
	}
	var errs field.ErrorList
	if bad := validation.IsDNS1123Subdomain(gv.Group); gv.Group != "" && len(bad) > 0 {
		errs = append(errs, field.Invalid(p, gv.Group, strings.Join(bad, ",")))
	}
	if gv.Version == "" {
		errs = append(errs, field.Invalid(p, version, "version must be specified"))
	} else if bad := validation.IsDNS1035Label(gv.Version); len(bad) > 0 {
		errs = append(errs, field.Invalid(p, gv.Version, strings.Join(bad, ",")))
	}
	return errs
}

func validatePolicyStatus(s *admissionregistrationv1.ValidatingAdmissionPolicyStatus) field.ErrorList {
	p := field.NewPath("status")
	var errs field.ErrorList
	if s.TypeChecking != nil {
		for i, w := range s.TypeChecking.ExpressionWarnings {
			at := p.Child("typeChecking", "expressionWarnings").Index(i)
			errs = append(errs, required(at.Child("warning"), w.Warning, nil)...)
			errs = append(errs, validateWarningRef(at.Child("fieldRef"), strings.TrimSpace(w.FieldRef))...)
		}
	}
	return append(errs, metav1validation.ValidateConditions(s.Conditions, p.Child("conditions"))...)
}

// validateWarningRef checks the JSON path of an expression.
func validateWarningRef(p *field.Path, ref string) field.ErrorList {
	if ref == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	if err := jsonpath.New("spec").Parse("{" + ref + "}"); err != nil {
		return field.ErrorList{field.Invalid(p, ref, fmt.Sprintf("invalid JSONPath: %v", err))}
	}
	return nil
}

func paramKind(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

func mutatingAdmissionPolicyKind(gv schema.GroupVersion, compiler *cel.Compiler) *Kind {
	type policy = admissionregistrationv1.MutatingAdmissionPolicy
	k := define[policy, admissionregistrationv1.MutatingAdmissionPolicyList](gv, "mutatingadmissionpolicies").inCluster()
	k.AnyFinalizer = true
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(p *policy) {
		orPointer(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	})
	k.PrepareCreate = do1(func(p *policy) { p.Generation = 1 })
	k.PrepareUpdate = do2(func(p, old *policy) { raise(p, old, &p.Spec, &old.Spec) })
	k.Validate = check1(func(p *policy) field.ErrorList { return validateMutatingPolicy(compiler, p, nil) })
	k.ValidateUpdate = check2(func(p, old *policy) field.ErrorList { return validateMutatingPolicy(compiler, p, old) })
	k.Columns = named[*policy]().
		count("Mutations", "Mutation indicates the number of mutations rules defined in this configuration", func(p *policy) int64 { return int64(len(p.Spec.Mutations)) }).
		text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(p *policy) string { return paramKind(p.Spec.ParamKind) }).
		age()
	return k
}

// validateMutatingPolicy checks a policy. old is nil for a new one.
func validateMutatingPolicy(compiler *cel.Compiler, pol, old *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	p, s := field.NewPath("spec"), &pol.Spec
	errs := validatePolicyMatch(p.Child("matchConstraints"), s.MatchConstraints)
	if m := s.MatchConstraints; m != nil {
		errs = append(errs, notDelete(p.Child("matchConstraints"), m)...)
	}
	errs = append(errs, validatePolicyCommon(p, s.FailurePolicy, s.ParamKind)...)
	if old == nil || !sameConditions(s.ParamKind, old.Spec.ParamKind, s.MatchConditions, old.Spec.MatchConditions) {
		errs = append(errs, validateConditions(p.Child("matchConditions"), s.MatchConditions, compiler, s.ParamKind != nil)...)
	}
	scope := compiler.Scope()
	x := policyExpressions{compile: scope.Compile, params: s.ParamKind != nil, patches: true}
	errs = append(errs, validateVariables(p.Child("variables"), s.Variables, scope, x.params)...)
	errs = append(errs, oneOf(p.Child("reinvocationPolicy"), s.ReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(p.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range s.Mutations {
		errs = append(errs, validateMutation(p.Child("mutations").Index(i), &s.Mutations[i], x)...)
	}
	return errs
}

// notDelete refuses to mutate what is being deleted.
func notDelete(p *field.Path, m *admissionregistrationv1.MatchResources) field.ErrorList {
	var errs field.ErrorList
	for _, r := range m.ResourceRules {
		for _, op := range r.Operations {
			errs = append(errs, supported(p.Child("resourceRules", "operations"), op,
				admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update)...)
		}
	}
	return errs
}

func validateMutation(p *field.Path, m *admissionregistrationv1.Mutation, x policyExpressions) field.ErrorList {
	errs := oneOf(p.Child("patchType"), m.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)
	if len(errs) > 0 {
		return errs
	}
	for _, f := range []struct {
		child      string
		patch      admissionregistrationv1.PatchType
		set        bool
		expression func() string
		want       cel.Result
	}{
		{"applyConfiguration", admissionregistrationv1.PatchTypeApplyConfiguration, m.ApplyConfiguration != nil, func() string { return m.ApplyConfiguration.Expression }, cel.ApplyConfiguration},
		{"jsonPatch", admissionregistrationv1.PatchTypeJSONPatch, m.JSONPatch != nil, func() string { return m.JSONPatch.Expression }, cel.JSONPatches},
	} {
		at := p.Child(f.child)
		switch {
		case m.PatchType != f.patch && f.set:
			errs = append(errs, field.Invalid(at, "{"+f.child+"}", fmt.Sprintf("must not be specified when patchType is %s", m.PatchType)))
		case m.PatchType != f.patch:
		case !f.set:
			errs = append(errs, field.Required(at, fmt.Sprintf("must be specified when patchType is %s", m.PatchType)))
		case strings.TrimSpace(f.expression()) == "":
			errs = append(errs, field.Required(at.Child("expression"), ""))
		default:
			errs = append(errs, x.check(at.Child("expression"), strings.TrimSpace(f.expression()), f.want)...)
		}
	}
	return errs
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

// validatePolicyMatch checks what a policy is for, which it has to say.
func validatePolicyMatch(p *field.Path, m *admissionregistrationv1.MatchResources) field.ErrorList {
	if m == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	errs := validateMatch(p, m)
	if len(m.ResourceRules) == 0 {
		errs = append(errs, field.Required(p.Child("resourceRules"), ""))
	}
	return errs
}

func validateMatch(p *field.Path, m *admissionregistrationv1.MatchResources) field.ErrorList {
	var errs field.ErrorList
	if m.MatchPolicy == nil {
		errs = append(errs, field.Required(p.Child("matchPolicy"), ""))
	} else {
		errs = append(errs, supported(p.Child("matchPolicy"), *m.MatchPolicy, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	}
	for _, rules := range []struct {
		child string
		list  []admissionregistrationv1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range rules.list {
			at := p.Child(rules.child).Index(i)
			errs = append(errs, validateRule(at, &rules.list[i].RuleWithOperations)...)
			errs = append(errs, validateResourceNames(at.Child("resourceNames"), rules.list[i].ResourceNames)...)
		}
	}
	errs = append(errs, validateSelector(p.Child("namespaceSelector"), m.NamespaceSelector)...)
	return append(errs, validateSelector(p.Child("objectSelector"), m.ObjectSelector)...)
}

func validateResourceNames(p *field.Path, names []string) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, name := range names {
		errs = append(errs, invalids(p.Index(i), name, path.ValidatePathSegmentName(name, false))...)
		if seen[name] {
			errs = append(errs, field.Duplicate(p.Index(i), name))
		}
		seen[name] = true
	}
	return errs
}

func validatingAdmissionPolicyBindingKind(gv schema.GroupVersion) *Kind {
	type binding = admissionregistrationv1.ValidatingAdmissionPolicyBinding
	k := define[binding, admissionregistrationv1.ValidatingAdmissionPolicyBindingList](gv, "validatingadmissionpolicybindings").inCluster()
	k.AnyFinalizer = true
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(b *binding) { defaultMatch(b.Spec.MatchResources) })
	k.PrepareCreate = do1(func(b *binding) { b.Generation = 1 })
	k.PrepareUpdate = do2(func(b, old *binding) { raise(b, old, &b.Spec, &old.Spec) })
	validate := func(b *binding) field.ErrorList {
		p := field.NewPath("spec")
		errs := required(p.Child("policyName"), b.Spec.PolicyName, subdomain)
		errs = append(errs, validateParamRef(p.Child("paramRef"), b.Spec.ParamRef)...)
		if m := b.Spec.MatchResources; m != nil {
			errs = append(errs, validateMatch(p.Child("matchResources"), m)...)
		}
		if len(b.Spec.ValidationActions) == 0 {
			errs = append(errs, field.Required(p.Child("validationActions"), "at least one validation action is required"))
		}
		seen := map[admissionregistrationv1.ValidationAction]bool{}
		for i, a := range b.Spec.ValidationActions {
			errs = append(errs, supported(p.Child("validationActions").Index(i), a, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)...)
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
	k.AnyFinalizer = true
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(b *binding) { defaultMatch(b.Spec.MatchResources) })
	k.PrepareCreate = do1(func(b *binding) { b.Generation = 1 })
	k.PrepareUpdate = do2(func(b, old *binding) { raise(b, old, &b.Spec, &old.Spec) })
	validate := func(b *binding) field.ErrorList {
		p := field.NewPath("spec")
		errs := required(p.Child("policyName"), b.Spec.PolicyName, subdomain)
		errs = append(errs, validateParamRef(p.Child("paramRef"), b.Spec.ParamRef)...)
		if m := b.Spec.MatchResources; m != nil {
			errs = append(errs, validateMatch(p.Child("matchResources"), m)...)
			errs = append(errs, notDelete(p.Child("matchResources"), m)...)
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

func validateParamRef(p *field.Path, r *admissionregistrationv1.ParamRef) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	switch at := p.Child("name"); {
	case r.Name == "" && r.Selector == nil:
		errs = append(errs, field.Required(p, "one of name or selector must be specified"))
	case r.Name != "" && r.Selector != nil:
		errs = append(errs, field.Forbidden(at, "name and selector are mutually exclusive"))
	}
	if r.Name != "" {
		errs = append(errs, invalids(p.Child("name"), r.Name, path.ValidatePathSegmentName(r.Name, false))...)
	}
	if r.Selector != nil {
		errs = append(errs, validateSelector(p.Child("selector"), r.Selector)...)
		if r.Name != "" {
			errs = append(errs, field.Forbidden(p.Child("selector"), "name and selector are mutually exclusive"))
		}
	}
	switch at := p.Child("parameterNotFoundAction"); {
	case r.ParameterNotFoundAction == nil || *r.ParameterNotFoundAction == "":
		errs = append(errs, field.Required(at, ""))
	case *r.ParameterNotFoundAction != admissionregistrationv1.DenyAction && *r.ParameterNotFoundAction != admissionregistrationv1.AllowAction:
		errs = append(errs, field.NotSupported(at, *r.ParameterNotFoundAction, // in upstream's order
			[]admissionregistrationv1.ParameterNotFoundActionType{admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction}))
	}
	return errs
}

func policyBindingColumns[T Object](of func(T) (string, *admissionregistrationv1.ParamRef)) []Column {
	return named[T]().
		text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to", func(t T) string {
			name, _ := of(t)
			return name
		}).
		text("ParamRef", "ParamRef indicates the param resource which sets the configuration param", func(t T) string {
			_, r := of(t)
			switch {
			case r == nil:
				return "<unset>"
			case r.Selector != nil:
				return r.Selector.String()
			case r.Namespace != "":
				return fmt.Sprintf("%s/%s", r.Namespace, r.Name)
			}
			return r.Name
		}).
		age()
}
