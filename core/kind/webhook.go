package kind

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/cel"
)

func validatingWebhookConfigurationKind(gv schema.GroupVersion, compiler *cel.Compiler) *Kind {
	type config = admissionregistrationv1.ValidatingWebhookConfiguration
	k := define[config, admissionregistrationv1.ValidatingWebhookConfigurationList](gv, "validatingwebhookconfigurations").inCluster()
	k.AnyFinalizer = true
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(c *config) {
		for i := range c.Webhooks {
			h := &c.Webhooks[i]
			defaultWebhook(&h.FailurePolicy, &h.MatchPolicy, &h.NamespaceSelector, &h.ObjectSelector, &h.TimeoutSeconds, &h.ClientConfig, h.Rules)
		}
	})
	k.PrepareCreate = do1(func(c *config) { c.Generation = 1 })
	k.PrepareUpdate = do2(func(c, old *config) { raiseHooks(c, old, c.Webhooks, old.Webhooks) })
	hooks := func(c *config) []webhook {
		var hooks []webhook
		for i := range c.Webhooks {
			h := &c.Webhooks[i]
			hooks = append(hooks, webhook{
				h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector,
				h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions, nil,
			})
		}
		return hooks
	}
	k.Validate = check1(func(c *config) field.ErrorList { return validateWebhooks(compiler, hooks(c), nil) })
	k.ValidateUpdate = check2(func(c, old *config) field.ErrorList { return validateWebhooks(compiler, hooks(c), hooks(old)) })
	k.Columns = webhookColumns(func(c *config) int { return len(c.Webhooks) })
	return k
}

func mutatingWebhookConfigurationKind(gv schema.GroupVersion, compiler *cel.Compiler) *Kind {
	type config = admissionregistrationv1.MutatingWebhookConfiguration
	k := define[config, admissionregistrationv1.MutatingWebhookConfigurationList](gv, "mutatingwebhookconfigurations").inCluster()
	k.AnyFinalizer = true
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(c *config) {
		for i := range c.Webhooks {
			h := &c.Webhooks[i]
			defaultWebhook(&h.FailurePolicy, &h.MatchPolicy, &h.NamespaceSelector, &h.ObjectSelector, &h.TimeoutSeconds, &h.ClientConfig, h.Rules)
			orPointer(&h.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
		}
	})
	k.PrepareCreate = do1(func(c *config) { c.Generation = 1 })
	k.PrepareUpdate = do2(func(c, old *config) { raiseHooks(c, old, c.Webhooks, old.Webhooks) })
	hooks := func(c *config) []webhook {
		var hooks []webhook
		for i := range c.Webhooks {
			h := &c.Webhooks[i]
			hooks = append(hooks, webhook{
				h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector,
				h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions, h.ReinvocationPolicy,
			})
		}
		return hooks
	}
	k.Validate = check1(func(c *config) field.ErrorList { return validateWebhooks(compiler, hooks(c), nil) })
	k.ValidateUpdate = check2(func(c, old *config) field.ErrorList { return validateWebhooks(compiler, hooks(c), hooks(old)) })
	k.Columns = webhookColumns(func(c *config) int { return len(c.Webhooks) })
	return k
}

// raiseHooks counts a change of the hooks. For upstream, an empty caBundle that
// goes away is one, too.
func raiseHooks(c, old Object, hooks, was any) {
	c.SetGeneration(old.GetGeneration())
	if !reflect.DeepEqual(hooks, was) {
		c.SetGeneration(old.GetGeneration() + 1)
	}
}

func webhookColumns[T Object](n func(T) int) []Column {
	return named[T]().
		count("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration", func(t T) int64 { return int64(n(t)) }).
		age()
}

func defaultWebhook(failure **admissionregistrationv1.FailurePolicyType, match **admissionregistrationv1.MatchPolicyType,
	namespaces, objects **metav1.LabelSelector, timeout **int32, client *admissionregistrationv1.WebhookClientConfig,
	rules []admissionregistrationv1.RuleWithOperations,
) {
	orPointer(failure, admissionregistrationv1.Fail)
	orPointer(match, admissionregistrationv1.Equivalent)
	orPointer(namespaces, metav1.LabelSelector{})
	orPointer(objects, metav1.LabelSelector{})
	orPointer(timeout, 10)
	if client.Service != nil {
		orPointer(&client.Service.Port, 443)
	}
	for i := range rules {
		orPointer(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
}

// webhook is what both kinds of webhooks have in common.
type webhook struct {
	name          string
	client        admissionregistrationv1.WebhookClientConfig
	rules         []admissionregistrationv1.RuleWithOperations
	failure       *admissionregistrationv1.FailurePolicyType
	match         *admissionregistrationv1.MatchPolicyType
	namespaces    *metav1.LabelSelector
	objects       *metav1.LabelSelector
	sideEffects   *admissionregistrationv1.SideEffectClass
	timeout       *int32
	versions      []string
	conditions    []admissionregistrationv1.MatchCondition
	reinvocations *admissionregistrationv1.ReinvocationPolicyType
}

// validateWebhooks checks the hooks of a configuration. Conditions that are as
// in old stay as they are, in whatever language they were accepted.
func validateWebhooks(compiler *cel.Compiler, hooks, old []webhook) field.ErrorList {
	var errs field.ErrorList
	same := slices.EqualFunc(hooks, old, func(a, b webhook) bool { return slices.Equal(a.conditions, b.conditions) })
	names := map[string]bool{}
	for i := range hooks {
		p := field.NewPath("webhooks").Index(i)
		errs = append(errs, hooks[i].validate(p)...)
		if !same {
			errs = append(errs, validateConditions(p.Child("matchConditions"), hooks[i].conditions, compiler, false)...)
		}
		if n := hooks[i].name; n != "" && names[n] {
			errs = append(errs, field.Duplicate(p.Child("name"), n))
		}
		names[hooks[i].name] = true
	}
	return errs
}

func (h *webhook) validate(p *field.Path) field.ErrorList {
	errs := validation.IsFullyQualifiedName(p.Child("name"), h.name)
	versions := p.Child("admissionReviewVersions")
	if len(h.versions) == 0 {
		errs = append(errs, field.Required(versions, "must specify one of v1, v1beta1"))
	} else if !slices.Contains(h.versions, "v1") && !slices.Contains(h.versions, "v1beta1") {
		errs = append(errs, field.Invalid(versions, h.versions, "must include at least one of v1, v1beta1"))
	}
	for i, v := range h.versions {
		if slices.Contains(h.versions[:i], v) {
			errs = append(errs, field.Invalid(versions.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, invalids(versions.Index(i), v, validation.IsDNS1035Label(v))...)
	}
	for i := range h.rules {
		errs = append(errs, validateRule(p.Child("rules").Index(i), &h.rules[i])...)
	}
	if h.failure != nil {
		errs = append(errs, supported(p.Child("failurePolicy"), *h.failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	}
	if h.match != nil {
		errs = append(errs, supported(p.Child("matchPolicy"), *h.match, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	}
	if h.sideEffects == nil {
		errs = append(errs, field.Required(p.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
	} else {
		errs = append(errs, supported(p.Child("sideEffects"), *h.sideEffects, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)...)
	}
	if h.timeout != nil && (*h.timeout < 1 || *h.timeout > 30) {
		errs = append(errs, field.Invalid(p.Child("timeoutSeconds"), *h.timeout, "the timeout value must be between 1 and 30 seconds"))
	}
	errs = append(errs, validateSelector(p.Child("namespaceSelector"), h.namespaces)...)
	errs = append(errs, validateSelector(p.Child("objectSelector"), h.objects)...)
	if h.reinvocations != nil {
		errs = append(errs, supported(p.Child("reinvocationPolicy"), *h.reinvocations, admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
	}
	switch at := p.Child("clientConfig"); {
	case (h.client.URL == nil) == (h.client.Service == nil):
		errs = append(errs, field.Required(at, "exactly one of url or service is required"))
	case h.client.URL != nil:
		errs = append(errs, validateHookURL(at.Child("url"), *h.client.URL)...)
	default:
		errs = append(errs, validateHookService(at.Child("service"), h.client.Service)...)
	}
	return errs
}

func validateHookURL(p *field.Path, address string) field.ErrorList {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(address)
	if err != nil {
		return field.ErrorList{field.Required(p, "url must be a valid URL: "+err.Error()+form)}
	}
	var errs field.ErrorList
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(p, u.Scheme, "'https' is the only allowed URL scheme"+form))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(p, u.Host, "host must be specified"+form))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(p, u.User.String(), "user information is not permitted in the URL"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(p, u.Fragment, "fragments are not permitted in the URL"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(p, u.RawQuery, "query parameters are not permitted in the URL"))
	}
	return errs
}

func validateHookService(p *field.Path, s *admissionregistrationv1.ServiceReference) field.ErrorList {
	// Upstream names the one where the other is missing.
	errs := required(p.Child("namespace"), s.Name, nil)
	errs = append(errs, required(p.Child("name"), s.Namespace, nil)...)
	if s.Port != nil {
		for _, m := range validation.IsValidPortNum(int(*s.Port)) {
			errs = append(errs, field.Invalid(p.Child("port"), *s.Port, "port is not valid: "+m))
		}
	}
	if s.Path != nil {
		errs = append(errs, validateHookPath(p.Child("path"), *s.Path)...)
	}
	return errs
}

// validateHookPath checks a path of which each segment is a DNS subdomain.
func validateHookPath(p *field.Path, path string) field.ErrorList {
	if path == "/" || path == "" {
		return nil
	}
	var errs field.ErrorList
	if !strings.HasPrefix(path, "/") {
		errs = append(errs, field.Invalid(p, path, "must start with a '/'"))
	}
	rest := strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	for i, step := range strings.Split(rest, "/") {
		if step == "" {
			errs = append(errs, field.Invalid(p, path, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, m := range validation.IsDNS1123Subdomain(step) {
			errs = append(errs, field.Invalid(p, path, fmt.Sprintf("segment[%d]: %v", i, m)))
		}
	}
	return errs
}

func validateRule(p *field.Path, r *admissionregistrationv1.RuleWithOperations) field.ErrorList {
	var errs field.ErrorList
	list := func(name string, values []string, mayBeEmpty bool) {
		at := p.Child(name)
		if len(values) == 0 {
			errs = append(errs, field.Required(at, ""))
		}
		if len(values) > 1 && slices.Contains(values, "*") {
			errs = append(errs, field.Invalid(at, values, "if '*' is present, must not specify other "+name))
		}
		for i, v := range values {
			if v == "" && !mayBeEmpty {
				errs = append(errs, field.Required(at.Index(i), ""))
			}
		}
	}
	list("apiGroups", r.APIGroups, true)
	list("apiVersions", r.APIVersions, false)
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(p.Child("resources"), ""))
	}
	for i, v := range r.Resources {
		if v == "" {
			errs = append(errs, field.Required(p.Child("resources").Index(i), ""))
		}
	}
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(p.Child("operations"), ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(p.Child("operations"), r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, op := range r.Operations {
		errs = append(errs, supported(p.Child("operations").Index(i), op, admissionregistrationv1.OperationAll, admissionregistrationv1.Connect,
			admissionregistrationv1.Create, admissionregistrationv1.Delete, admissionregistrationv1.Update)...)
	}
	if r.Scope != nil {
		errs = append(errs, supported(p.Child("scope"), *r.Scope, admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)...)
	}
	return errs
}
