package kind

import (
	"fmt"
	"math"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func flowSchemaKind(gv schema.GroupVersion) *Kind {
	k := define[flowcontrolv1.FlowSchema, flowcontrolv1.FlowSchemaList](gv, "flowschemas").inCluster()
	k.Default = do1(func(f *flowcontrolv1.FlowSchema) { orElse(&f.Spec.MatchingPrecedence, 1000) })
	k.PrepareCreate = do1(func(f *flowcontrolv1.FlowSchema) {
		f.Status = flowcontrolv1.FlowSchemaStatus{}
		f.Generation = 1
	})
	k.PrepareUpdate = do2(func(f, old *flowcontrolv1.FlowSchema) {
		f.Status = *old.Status.DeepCopy()
		raise(f, old, &f.Spec, &old.Spec)
	})
	k.Validate = check1(validateFlowSchema)
	k.ValidateUpdate = check2(func(f, _ *flowcontrolv1.FlowSchema) field.ErrorList { return validateFlowSchema(f) })
	doc := flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()
	k.Columns = named[*flowcontrolv1.FlowSchema]().
		text("PriorityLevel", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"], func(f *flowcontrolv1.FlowSchema) string {
			return f.Spec.PriorityLevelConfiguration.Name
		}).
		count("MatchingPrecedence", doc["matchingPrecedence"], func(f *flowcontrolv1.FlowSchema) int64 { return int64(f.Spec.MatchingPrecedence) }).as("string").
		text("DistinguisherMethod", doc["distinguisherMethod"], func(f *flowcontrolv1.FlowSchema) string {
			if f.Spec.DistinguisherMethod == nil {
				return "<none>"
			}
			return string(f.Spec.DistinguisherMethod.Type)
		}).
		age().
		text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration", func(f *flowcontrolv1.FlowSchema) string {
			for _, c := range f.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					return string(c.Status)
				}
			}
			return "?"
		})
	k.Subresources = []Subresource{status(func(f, old *flowcontrolv1.FlowSchema) {
		f.Spec = *old.Spec.DeepCopy()
		metav1.ResetObjectMetaForStatus(f, old)
	}, func(f, _ *flowcontrolv1.FlowSchema) field.ErrorList { return validateFlowSchemaStatus(f) })}
	return k
}

func validateFlowSchema(f *flowcontrolv1.FlowSchema) field.ErrorList {
	p, s := field.NewPath("spec"), &f.Spec
	var errs field.ErrorList
	if s.MatchingPrecedence < 1 {
		errs = append(errs, field.Invalid(p.Child("matchingPrecedence"), s.MatchingPrecedence, "must be a positive value"))
	} else if s.MatchingPrecedence > flowcontrolv1.FlowSchemaMaxMatchingPrecedence {
		errs = append(errs, field.Invalid(p.Child("matchingPrecedence"), s.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	}
	if s.MatchingPrecedence == 1 && f.Name != flowcontrolv1.FlowSchemaNameExempt {
		errs = append(errs, field.Invalid(p.Child("matchingPrecedence"), s.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if d := s.DistinguisherMethod; d != nil && d.Type != flowcontrolv1.FlowDistinguisherMethodByNamespaceType && d.Type != flowcontrolv1.FlowDistinguisherMethodByUserType {
		// Upstream shows its internal type, which has no JSON names.
		errs = append(errs, field.NotSupported(p.Child("distinguisherMethod", "type"), struct {
			Type flowcontrolv1.FlowDistinguisherMethodType
		}{d.Type},
			[]flowcontrolv1.FlowDistinguisherMethodType{flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType}))
	}
	if name := s.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(p.Child("priorityLevelConfiguration", "name"), "must reference a priority level"))
	} else {
		errs = append(errs, invalids(p.Child("priorityLevelConfiguration", "name"), name, subdomain(name))...)
	}
	for i := range s.Rules {
		errs = append(errs, validateFlowRule(p.Child("rules").Index(i), &s.Rules[i])...)
	}
	errs = append(errs, validateMandatorySchema(f)...)
	return append(errs, validateFlowSchemaStatus(f)...)
}

func validateFlowSchemaStatus(f *flowcontrolv1.FlowSchema) field.ErrorList {
	return validateFlowConditions(f.Status.Conditions, func(c flowcontrolv1.FlowSchemaCondition) string { return string(c.Type) })
}

// validateFlowConditions checks that the conditions of a status have types, and
// each another one.
func validateFlowConditions[C any](conditions []C, typeOf func(C) string) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, c := range conditions {
		p, t := field.NewPath("status", "conditions").Index(i).Child("type"), typeOf(c)
		switch {
		case seen[t]:
			errs = append(errs, field.Duplicate(p, t))
		case t == "":
			errs = append(errs, field.Required(p, ""))
		}
		seen[t] = true
	}
	return errs
}

func validateFlowRule(p *field.Path, r *flowcontrolv1.PolicyRulesWithSubjects) field.ErrorList {
	var errs field.ErrorList
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(p.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateFlowSubject(p.Child("subjects").Index(i), &r.Subjects[i])...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(p, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range r.ResourceRules {
		errs = append(errs, validateFlowResources(p.Child("resourceRules").Index(i), &r.ResourceRules[i])...)
	}
	for i := range r.NonResourceRules {
		errs = append(errs, validateFlowPaths(p.Child("nonResourceRules").Index(i), &r.NonResourceRules[i])...)
	}
	return errs
}

func validateFlowSubject(p *field.Path, s *flowcontrolv1.Subject) field.ErrorList {
	errs := supported(p.Child("kind"), s.Kind, flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser)
	if len(errs) > 0 {
		return errs
	}
	for _, m := range []struct {
		kind  flowcontrolv1.SubjectKind
		child string
		set   bool
	}{
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil},
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil},
		{flowcontrolv1.SubjectKindGroup, "group", s.Group != nil},
	} {
		switch {
		case m.set && s.Kind != m.kind:
			errs = append(errs, field.Forbidden(p.Child(m.child), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", m.child, m.kind)))
		case !m.set && s.Kind == m.kind:
			errs = append(errs, field.Required(p.Child(m.child), fmt.Sprintf("%s is required when subject kind is '%s'", m.child, m.kind)))
		}
	}
	switch {
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		errs = append(errs, validateFlowAccount(p.Child("serviceAccount"), s.ServiceAccount)...)
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		errs = append(errs, required(p.Child("user", "name"), s.User.Name, nil)...)
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		errs = append(errs, required(p.Child("group", "name"), s.Group.Name, nil)...)
	}
	return errs
}

func validateFlowAccount(p *field.Path, s *flowcontrolv1.ServiceAccountSubject) field.ErrorList {
	var errs field.ErrorList
	switch s.Name {
	case "":
		errs = append(errs, field.Required(p.Child("name"), ""))
	case flowcontrolv1.NameAll:
	default:
		errs = append(errs, invalids(p.Child("name"), s.Name, subdomain(s.Name))...)
	}
	if s.Namespace == "" {
		return append(errs, field.Required(p.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, invalids(p.Child("namespace"), s.Namespace, validation.IsDNS1123Label(s.Namespace))...)
}

// flowVerbs are those of requests that are no long-running sessions, sorted.
const flowVerbs = "create delete deletecollection get list patch proxy update watch"

func validateFlowVerbs(p *field.Path, verbs []string) field.ErrorList {
	known := strings.Fields(flowVerbs)
	switch {
	case len(verbs) == 0:
		return field.ErrorList{field.Required(p, "verbs must contain at least one value")}
	case slices.Contains(verbs, flowcontrolv1.VerbAll):
		if len(verbs) > 1 {
			return field.ErrorList{field.Invalid(p, verbs, "if '*' is present, must not specify other verbs")}
		}
	case slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(known, v) }):
		return field.ErrorList{field.NotSupported(p, verbs, known)}
	}
	return nil
}

// alone says that '*' stands for all others.
func alone(p *field.Path, values []string, wildcard, what string) field.ErrorList {
	if len(values) > 1 && slices.Contains(values, wildcard) {
		return field.ErrorList{field.Invalid(p, values, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

func validateFlowResources(p *field.Path, r *flowcontrolv1.ResourcePolicyRule) field.ErrorList {
	errs := validateFlowVerbs(p.Child("verbs"), r.Verbs)
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(p.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	errs = append(errs, alone(p.Child("apiGroups"), r.APIGroups, flowcontrolv1.APIGroupAll, "api groups")...)
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(p.Child("resources"), "resource rules must supply at least one resource"))
	}
	errs = append(errs, alone(p.Child("resources"), r.Resources, flowcontrolv1.ResourceAll, "resources")...)
	at := p.Child("namespaces")
	if len(r.Namespaces) == 0 && !r.ClusterScope {
		return append(errs, field.Required(at, "resource rules that are not cluster scoped must supply at least one namespace"))
	}
	if bad := alone(at, r.Namespaces, flowcontrolv1.NamespaceEvery, "namespaces"); len(bad) > 0 {
		return append(errs, bad...)
	}
	for i, ns := range r.Namespaces {
		if ns == flowcontrolv1.NamespaceEvery {
			continue
		}
		if messages := validation.IsDNS1123Label(ns); len(messages) > 0 {
			errs = append(errs, field.Invalid(at.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+strings.Join(messages, ", ")))
		}
	}
	return errs
}

func validateFlowPaths(p *field.Path, r *flowcontrolv1.NonResourcePolicyRule) field.ErrorList {
	errs := validateFlowVerbs(p.Child("verbs"), r.Verbs)
	at := p.Child("nonResourceURLs")
	if len(r.NonResourceURLs) == 0 {
		return append(errs, field.Required(at, "nonResourceURLs must contain at least one value"))
	}
	if bad := alone(at, r.NonResourceURLs, flowcontrolv1.NonResourceAll, "non-resource URLs"); len(bad) > 0 {
		return append(errs, bad...)
	}
	for i, url := range r.NonResourceURLs {
		errs = append(errs, validateFlowPath(at.Index(i), url)...)
	}
	return errs
}

func validateFlowPath(p *field.Path, url string) field.ErrorList {
	bad := func(message string) field.ErrorList { return field.ErrorList{field.Invalid(p, url, message)} }
	switch {
	case url == flowcontrolv1.NonResourceAll || url == "/":
		return nil
	case url == "":
		return bad("must not be empty")
	case !strings.HasPrefix(url, "/"):
		return bad("must start with slash")
	case strings.Contains(url, " "):
		return bad("must not contain white-space")
	case strings.Contains(url, "//"):
		return bad("must not contain double slash")
	case strings.Contains(url, "*") && !strings.HasSuffix(url, "/*"):
		return bad("wildcard can only do suffix matching")
	}
	return nil
}

func priorityLevelConfigurationKind(gv schema.GroupVersion) *Kind {
	type level = flowcontrolv1.PriorityLevelConfiguration
	k := define[level, flowcontrolv1.PriorityLevelConfigurationList](gv, "prioritylevelconfigurations").inCluster()
	k.Default = do1(func(l *level) {
		if e := l.Spec.Exempt; e != nil {
			orPointer(&e.NominalConcurrencyShares, 0)
			orPointer(&e.LendablePercent, 0)
		}
		if lim := l.Spec.Limited; lim != nil {
			orPointer(&lim.NominalConcurrencyShares, 30)
			orPointer(&lim.LendablePercent, 0)
			if q := lim.LimitResponse.Queuing; q != nil {
				orElse(&q.HandSize, 8)
				orElse(&q.Queues, 64)
				orElse(&q.QueueLengthLimit, 50)
			}
		}
	})
	k.PrepareCreate = do1(func(l *level) {
		l.Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
		l.Generation = 1
	})
	k.PrepareUpdate = do2(func(l, old *level) {
		l.Status = *old.Status.DeepCopy()
		raise(l, old, &l.Spec, &old.Spec)
	})
	k.Validate = check1(validatePriorityLevel)
	k.ValidateUpdate = check2(func(l, _ *level) field.ErrorList { return validatePriorityLevel(l) })
	queuing := func(pick func(*flowcontrolv1.QueuingConfiguration) int32) func(*level) any {
		return func(l *level) any {
			if l.Spec.Limited == nil || l.Spec.Limited.LimitResponse.Queuing == nil {
				return "<none>"
			}
			return int64(pick(l.Spec.Limited.LimitResponse.Queuing))
		}
	}
	doc := flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()
	k.Columns = named[*level]().
		text("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], func(l *level) string { return string(l.Spec.Type) }).
		mixed("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"], func(l *level) any {
			if l.Spec.Limited == nil {
				return "<none>"
			}
			return int64(deref(l.Spec.Limited.NominalConcurrencyShares))
		}).
		mixed("Queues", doc["queues"], queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues })).
		mixed("HandSize", doc["handSize"], queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize })).
		mixed("QueueLengthLimit", doc["queueLengthLimit"], queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit })).
		age()
	k.Subresources = []Subresource{status(func(l, old *level) {
		l.Spec = *old.Spec.DeepCopy()
		metav1.ResetObjectMetaForStatus(l, old)
	}, func(l, _ *level) field.ErrorList { return validatePriorityLevelStatus(l) })}
	return k
}

func validatePriorityLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	p, s := field.NewPath("spec"), &l.Spec
	errs := oneOf(p.Child("type"), s.Type, flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	errs = append(errs, validateMandatoryLevel(l)...)
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(p.Child("limited"), "must be nil if the type is not Limited"))
		}
		if e := s.Exempt; e != nil {
			errs = append(errs, validateShares(p.Child("exempt"), e.NominalConcurrencyShares, e.LendablePercent)...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(p.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited == nil {
			errs = append(errs, field.Required(p.Child("limited"), "must not be empty when type is Limited"))
			break
		}
		errs = append(errs, validateLimited(p.Child("limited"), s.Limited)...)
	}
	return append(errs, validatePriorityLevelStatus(l)...)
}

func validatePriorityLevelStatus(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	return validateFlowConditions(l.Status.Conditions, func(c flowcontrolv1.PriorityLevelConfigurationCondition) string { return string(c.Type) })
}

func validateShares(p *field.Path, shares, lendable *int32) field.ErrorList {
	var errs field.ErrorList
	if n := deref(shares); n < 0 {
		errs = append(errs, field.Invalid(p.Child("nominalConcurrencyShares"), n, "must be a non-negative integer"))
	}
	if n := deref(lendable); n < 0 || n > 100 {
		errs = append(errs, field.Invalid(p.Child("lendablePercent"), n, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(p *field.Path, l *flowcontrolv1.LimitedPriorityLevelConfiguration) field.ErrorList {
	errs := validateShares(p, l.NominalConcurrencyShares, l.LendablePercent)
	if n := l.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(p.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	p, r := p.Child("limitResponse"), l.LimitResponse
	errs = append(errs, oneOf(p.Child("type"), r.Type, flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)...)
	switch {
	case r.Type == flowcontrolv1.LimitResponseTypeReject && r.Queuing != nil:
		errs = append(errs, field.Forbidden(p.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
	case r.Type == flowcontrolv1.LimitResponseTypeQueue && r.Queuing == nil:
		errs = append(errs, field.Required(p.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
	case r.Type == flowcontrolv1.LimitResponseTypeQueue:
		errs = append(errs, validateQueuing(p.Child("queuing"), r.Queuing)...)
	}
	return errs
}

const (
	maxQueues = 10 * 1000 * 1000
	// maxDealBits is what the hash of a flow has for dealing it a hand.
	maxDealBits = 60
)

func validateQueuing(p *field.Path, q *flowcontrolv1.QueuingConfiguration) field.ErrorList {
	var errs field.ErrorList
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(p.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	if q.Queues <= 0 {
		errs = append(errs, field.Invalid(p.Child("queues"), q.Queues, "must be positive"))
	} else if q.Queues > maxQueues {
		errs = append(errs, field.Invalid(p.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	hand := p.Child("handSize")
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(hand, q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	case dealBits(int(q.Queues), int(q.HandSize)) > maxDealBits:
		errs = append(errs, field.Invalid(hand, q.HandSize,
			fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, maxDealBits)))
	}
	return errs
}

// dealBits is how many random bits it takes to deal a hand from a deck.
func dealBits(deck, hand int) int {
	hands := 1.0
	for i := range hand {
		hands *= float64(max(deck-i, 1))
	}
	return int(math.Ceil(math.Log2(hands)))
}
