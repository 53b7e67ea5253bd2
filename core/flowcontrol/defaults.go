package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/auth"
)

// suggestedLevels and suggestedSchemas are made when they are missing and kept
// as here unless the user has taken them over.
func suggestedLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	queues := func(n, hand int32) *flowcontrolv1.QueuingConfiguration {
		return &flowcontrolv1.QueuingConfiguration{Queues: n, HandSize: hand, QueueLengthLimit: 50}
	}
	return []*flowcontrolv1.PriorityLevelConfiguration{
		limited("system", 30, 33, queues(64, 6)),
		limited("node-high", 40, 25, queues(64, 6)),
		limited("leader-election", 10, 0, queues(16, 4)),
		limited("workload-high", 40, 50, queues(128, 6)),
		limited("workload-low", 100, 90, queues(128, 6)),
		limited("global-default", 20, 50, queues(128, 6)),
	}
}

func suggestedSchemas() []*flowcontrolv1.FlowSchema {
	const (
		byUser      = flowcontrolv1.FlowDistinguisherMethodByUserType
		byNamespace = flowcontrolv1.FlowDistinguisherMethodByNamespaceType
		manager     = "system:kube-controller-manager"
		scheduler   = "system:kube-scheduler"
	)
	all := []string{"*"}
	systemAccounts := flowcontrolv1.Subject{
		Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: metav1.NamespaceSystem, Name: "*"},
	}
	nodes := groups(auth.GroupNodes)
	leases := flowcontrolv1.ResourcePolicyRule{Verbs: all, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: all}
	election := leases
	election.Verbs = []string{"get", "create", "update"}
	nodeStatus := flowcontrolv1.ResourcePolicyRule{Verbs: all, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, Namespaces: all, ClusterScope: true}
	return []*flowcontrolv1.FlowSchema{
		flowSchemaOf("system-nodes", "system", 500, byUser, everything(nodes)),
		flowSchemaOf("system-node-high", "node-high", 400, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: nodes, ResourceRules: []flowcontrolv1.ResourcePolicyRule{nodeStatus, leases},
		}),
		flowSchemaOf("probes", "exempt", 2, "", flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: groups(auth.GroupUnauthenticated, auth.GroupAuthenticated),
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{
				{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}},
			},
		}),
		flowSchemaOf("system-leader-election", "leader-election", 100, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects: append(users(manager, scheduler), systemAccounts), ResourceRules: []flowcontrolv1.ResourcePolicyRule{election},
		}),
		flowSchemaOf("kube-controller-manager", "workload-high", 800, byNamespace, everything(users(manager))),
		flowSchemaOf("kube-scheduler", "workload-high", 800, byNamespace, everything(users(scheduler))),
		flowSchemaOf("kube-system-service-accounts", "workload-high", 900, byNamespace, everything([]flowcontrolv1.Subject{systemAccounts})),
		flowSchemaOf("service-accounts", "workload-low", 9000, byUser, everything(groups(auth.GroupServiceAccounts))),
		flowSchemaOf("global-default", "global-default", 9900, byUser, everything(groups(auth.GroupUnauthenticated, auth.GroupAuthenticated))),
	}
}

func autoUpdated(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

// limited is a level that queues.
func limited(name string, shares, lendable int32, q *flowcontrolv1.QueuingConfiguration) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: autoUpdated(name), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited,
		Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			NominalConcurrencyShares: &shares, LendablePercent: &lendable,
			LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: q},
		},
	}}
}

func flowSchemaOf(name, level string, precedence int32, by flowcontrolv1.FlowDistinguisherMethodType, rules ...flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	f := &flowcontrolv1.FlowSchema{ObjectMeta: autoUpdated(name), Spec: flowcontrolv1.FlowSchemaSpec{
		PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level},
		MatchingPrecedence:         precedence, Rules: rules,
	}}
	if by != "" {
		f.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: by}
	}
	return f
}

// everything is whatever the subjects ask for.
func everything(subjects []flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
	all := []string{"*"}
	return flowcontrolv1.PolicyRulesWithSubjects{
		Subjects: subjects,
		ResourceRules: []flowcontrolv1.ResourcePolicyRule{
			{Verbs: all, APIGroups: all, Resources: all, Namespaces: all, ClusterScope: true},
		},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: all, NonResourceURLs: all}},
	}
}

func groups(names ...string) (out []flowcontrolv1.Subject) {
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: n}})
	}
	return out
}

func users(names ...string) (out []flowcontrolv1.Subject) {
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: n}})
	}
	return out
}
