package kind

import (
	"fmt"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MandatoryFlowSchemas exist in every cluster, and always with these specs.
func MandatoryFlowSchemas() []*flowcontrolv1.FlowSchema {
	all := []string{"*"}
	make := func(name, level string, precedence int32, by *flowcontrolv1.FlowDistinguisherMethod, groups ...string) *flowcontrolv1.FlowSchema {
		rules := flowcontrolv1.PolicyRulesWithSubjects{
			ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: all, APIGroups: all, Resources: all, Namespaces: all, ClusterScope: true}},
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: all, NonResourceURLs: all}},
		}
		for _, g := range groups {
			rules.Subjects = append(rules.Subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: g}})
		}
		return &flowcontrolv1.FlowSchema{ObjectMeta: autoUpdated(name), Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level},
			MatchingPrecedence:         precedence, DistinguisherMethod: by, Rules: []flowcontrolv1.PolicyRulesWithSubjects{rules},
		}}
	}
	return []*flowcontrolv1.FlowSchema{
		make(flowcontrolv1.FlowSchemaNameExempt, flowcontrolv1.PriorityLevelConfigurationNameExempt, 1, nil, "system:masters"),
		make(flowcontrolv1.FlowSchemaNameCatchAll, flowcontrolv1.PriorityLevelConfigurationNameCatchAll, 10000,
			&flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType}, "system:unauthenticated", "system:authenticated"),
	}
}

// MandatoryPriorityLevels exist in every cluster, and always with these specs,
// but for what exempt says of its shares.
func MandatoryPriorityLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	value := func(n int32) *int32 { return &n }
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{ObjectMeta: autoUpdated(flowcontrolv1.PriorityLevelConfigurationNameExempt), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type:   flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: value(0), LendablePercent: value(0)},
		}},
		{ObjectMeta: autoUpdated(flowcontrolv1.PriorityLevelConfigurationNameCatchAll), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: value(5), LendablePercent: value(0), LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		}},
	}
}

func autoUpdated(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

func validateMandatorySchema(f *flowcontrolv1.FlowSchema) field.ErrorList {
	for _, m := range MandatoryFlowSchemas() {
		if m.Name == f.Name && !equality.Semantic.DeepEqual(m.Spec, f.Spec) {
			return field.ErrorList{field.Invalid(field.NewPath("spec"), f.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name))}
		}
	}
	return nil
}

func validateMandatoryLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	for _, m := range MandatoryPriorityLevels() {
		if m.Name != l.Name {
			continue
		}
		have, except := l.Spec, ""
		if m.Spec.Exempt != nil {
			have.Exempt, except = m.Spec.Exempt, " except the 'spec.exempt' field"
		}
		if !equality.Semantic.DeepEqual(m.Spec, have) {
			return field.ErrorList{field.Invalid(field.NewPath("spec"), l.Spec, fmt.Sprintf("spec of '%s'%s must equal the fixed value", l.Name, except))}
		}
	}
	return nil
}
