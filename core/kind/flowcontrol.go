package kind

import (
	"fmt"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
		count("MatchingPrecedence", doc["matchingPrecedence"], func(f *flowcontrolv1.FlowSchema) int64 { return int64(f.Spec.MatchingPrecedence) }).
		text("DistinguisherMethod", flowcontrolv1.FlowDistinguisherMethod{}.SwaggerDoc()["type"], func(f *flowcontrolv1.FlowSchema) string {
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
		f.Generation = old.Generation
	}, nil)}
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
	if s.DistinguisherMethod != nil {
		errs = append(errs, oneOf(p.Child("distinguisherMethod", "type"), s.DistinguisherMethod.Type,
			flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)...)
	}
	errs = append(errs, required(p.Child("priorityLevelConfiguration", "name"), s.PriorityLevelConfiguration.Name, subdomain)...)
	for i, r := range s.Rules {
		at := p.Child("rules").Index(i)
		if len(r.Subjects) == 0 {
			errs = append(errs, field.Required(at.Child("subjects"), "subjects must contain at least one value"))
		}
		if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
			errs = append(errs, field.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
		}
		for j, res := range r.ResourceRules {
			in := at.Child("resourceRules").Index(j)
			if len(res.Verbs) == 0 {
				errs = append(errs, field.Required(in.Child("verbs"), "verbs must contain at least one value"))
			}
			if len(res.APIGroups) == 0 {
				errs = append(errs, field.Required(in.Child("apiGroups"), "resource rules must supply at least one api group"))
			}
			if len(res.Resources) == 0 {
				errs = append(errs, field.Required(in.Child("resources"), "resource rules must supply at least one resource"))
			}
			if len(res.Namespaces) == 0 && !res.ClusterScope {
				errs = append(errs, field.Required(in.Child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace"))
			}
		}
		for j, non := range r.NonResourceRules {
			in := at.Child("nonResourceRules").Index(j)
			if len(non.Verbs) == 0 {
				errs = append(errs, field.Required(in.Child("verbs"), "verbs must contain at least one value"))
			}
			for u, url := range non.NonResourceURLs {
				if url != "*" && !strings.HasPrefix(url, "/") {
					errs = append(errs, field.Invalid(in.Child("nonResourceURLs").Index(u), url, "must start with slash"))
				}
			}
		}
	}
	return errs
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
	queuing := func(pick func(*flowcontrolv1.QueuingConfiguration) int32) func(*level) string {
		return func(l *level) string {
			if l.Spec.Limited == nil || l.Spec.Limited.LimitResponse.Queuing == nil {
				return "<none>"
			}
			return fmt.Sprint(pick(l.Spec.Limited.LimitResponse.Queuing))
		}
	}
	doc := flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()
	k.Columns = named[*level]().
		text("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], func(l *level) string { return string(l.Spec.Type) }).
		text("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"], func(l *level) string {
			if l.Spec.Limited == nil {
				return "<none>"
			}
			return fmt.Sprint(deref(l.Spec.Limited.NominalConcurrencyShares))
		}).
		text("Queues", doc["queues"], queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues })).
		text("HandSize", doc["handSize"], queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize })).
		text("QueueLengthLimit", doc["queueLengthLimit"], queuing(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit })).
		age()
	k.Subresources = []Subresource{status(func(l, old *level) {
		l.Spec = *old.Spec.DeepCopy()
		l.Generation = old.Generation
	}, nil)}
	return k
}

func validatePriorityLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	p, s := field.NewPath("spec"), &l.Spec
	errs := oneOf(p.Child("type"), s.Type, flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(p.Child("limited"), "must be nil if the type is not Limited"))
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(p.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited == nil {
			return append(errs, field.Required(p.Child("limited"), "must not be empty when type is Limited"))
		}
		at, r := p.Child("limited", "limitResponse"), s.Limited.LimitResponse
		errs = append(errs, nonNegative32(p.Child("limited", "nominalConcurrencyShares"), s.Limited.NominalConcurrencyShares)...)
		errs = append(errs, oneOf(at.Child("type"), r.Type, flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)...)
		switch {
		case r.Type == flowcontrolv1.LimitResponseTypeReject && r.Queuing != nil:
			errs = append(errs, field.Forbidden(at.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		case r.Type == flowcontrolv1.LimitResponseTypeQueue && r.Queuing == nil:
			errs = append(errs, field.Required(at.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		case r.Queuing != nil && r.Queuing.HandSize > r.Queuing.Queues:
			errs = append(errs, field.Invalid(at.Child("queuing", "handSize"), r.Queuing.HandSize, fmt.Sprintf("should not be greater than queues (%d)", r.Queuing.Queues)))
		}
	}
	return errs
}
