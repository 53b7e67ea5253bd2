package kind

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"binnacle.io/core/cel"
)

// builtin makes every built-in kind, with its retired versions.
func builtin() []*Kind {
	kinds := slices.Concat(
		coreKinds(), appsKinds(), authKinds(), autoscalingKinds(), batchKinds(),
		certificatesKinds(), networkingKinds(), policyKinds(), rbacKinds(), storageKinds(),
		admissionKinds(), schedulingKinds(), coordinationKinds(), nodeKinds(),
		discoveryKinds(), flowcontrolKinds(), resourceKinds(), migrationKinds(), aggregationKinds(),
	)
	addRetired(kinds)
	addUpdateRules(kinds)
	return kinds
}

func coreKinds() []*Kind {
	gv := corev1.SchemeGroupVersion
	return []*Kind{
		bindingKind(gv),
		componentStatusKind(gv),
		configMapKind(gv),
		endpointsKind(gv),
		eventKind(gv),
		limitRangeKind(gv),
		namespaceKind(gv),
		nodeKind(gv),
		persistentVolumeClaimKind(gv),
		persistentVolumeKind(gv),
		podKind(gv),
		podTemplateKind(gv),
		replicationControllerKind(gv),
		resourceQuotaKind(gv),
		secretKind(gv),
		serviceAccountKind(gv),
		serviceKind(gv),
	}
}

func appsKinds() []*Kind {
	gv := appsv1.SchemeGroupVersion
	return []*Kind{
		controllerRevisionKind(gv),
		daemonSetKind(gv),
		deploymentKind(gv),
		replicaSetKind(gv),
		statefulSetKind(gv),
	}
}

// authKinds are questions to the API server.
func authKinds() []*Kind {
	authn, authz := authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion
	local := virtual[authorizationv1.LocalSubjectAccessReview](authz, "localsubjectaccessreviews")
	local.ClusterScoped = false
	return []*Kind{
		virtual[authenticationv1.SelfSubjectReview](authn, "selfsubjectreviews"),
		virtual[authenticationv1.TokenReview](authn, "tokenreviews"),
		virtual[authenticationv1.TokenRequest](authn, ""),
		local,
		virtual[authorizationv1.SelfSubjectAccessReview](authz, "selfsubjectaccessreviews"),
		virtual[authorizationv1.SelfSubjectRulesReview](authz, "selfsubjectrulesreviews"),
		virtual[authorizationv1.SubjectAccessReview](authz, "subjectaccessreviews"),
	}
}

func autoscalingKinds() []*Kind {
	return []*Kind{
		horizontalPodAutoscalerKind(autoscalingv2.SchemeGroupVersion),
		scaleKind(autoscalingv1.SchemeGroupVersion),
	}
}

func batchKinds() []*Kind {
	gv := batchv1.SchemeGroupVersion
	return []*Kind{cronJobKind(gv), jobKind(gv)}
}

func certificatesKinds() []*Kind {
	gv := certificatesv1.SchemeGroupVersion
	return []*Kind{
		certificateSigningRequestKind(gv),
		clusterTrustBundleKind(gv),
		podCertificateRequestKind(gv),
	}
}

func networkingKinds() []*Kind {
	gv := networkingv1.SchemeGroupVersion
	return []*Kind{
		ingressClassKind(gv),
		ingressKind(gv),
		ipAddressKind(gv),
		networkPolicyKind(gv),
		serviceCIDRKind(gv),
	}
}

func policyKinds() []*Kind {
	gv := policyv1.SchemeGroupVersion
	return []*Kind{podDisruptionBudgetKind(gv), evictionKind(gv)}
}

func rbacKinds() []*Kind {
	gv := rbacv1.SchemeGroupVersion
	return []*Kind{
		clusterRoleBindingKind(gv),
		clusterRoleKind(gv),
		roleBindingKind(gv),
		roleKind(gv),
	}
}

func storageKinds() []*Kind {
	gv := storagev1.SchemeGroupVersion
	return []*Kind{
		csiDriverKind(gv),
		csiNodeKind(gv),
		csiStorageCapacityKind(gv),
		storageClassKind(gv),
		volumeAttachmentKind(gv),
		volumeAttributesClassKind(gv),
	}
}

func admissionKinds() []*Kind {
	gv, compiler := admissionregistrationv1.SchemeGroupVersion, cel.NewCompiler()
	return []*Kind{
		mutatingAdmissionPolicyKind(gv, compiler),
		mutatingAdmissionPolicyBindingKind(gv),
		mutatingWebhookConfigurationKind(gv, compiler),
		validatingAdmissionPolicyKind(gv, compiler),
		validatingAdmissionPolicyBindingKind(gv),
		validatingWebhookConfigurationKind(gv, compiler),
	}
}

func schedulingKinds() []*Kind {
	return []*Kind{priorityClassKind(schedulingv1.SchemeGroupVersion)}
}

func coordinationKinds() []*Kind {
	return []*Kind{leaseKind(coordinationv1.SchemeGroupVersion)}
}

func nodeKinds() []*Kind {
	return []*Kind{runtimeClassKind(nodev1.SchemeGroupVersion)}
}

func discoveryKinds() []*Kind {
	return []*Kind{endpointSliceKind(discoveryv1.SchemeGroupVersion)}
}

func flowcontrolKinds() []*Kind {
	gv := flowcontrolv1.SchemeGroupVersion
	return []*Kind{flowSchemaKind(gv), priorityLevelConfigurationKind(gv)}
}

// resourceKinds are those of dynamic resource allocation.
func resourceKinds() []*Kind {
	gv := resourcev1.SchemeGroupVersion
	return []*Kind{deviceClassKind(gv), deviceTaintRuleKind(gv), resourceClaimKind(gv), resourceClaimTemplateKind(gv), resourceSliceKind(gv)}
}

func migrationKinds() []*Kind {
	return []*Kind{storageVersionMigrationKind(storagemigrationv1.SchemeGroupVersion)}
}

func aggregationKinds() []*Kind {
	return []*Kind{apiServiceKind(apiregistrationv1.SchemeGroupVersion)}
}

// scaleKind and evictionKind are bodies of subresources.

func scaleKind(gv schema.GroupVersion) *Kind { return virtual[autoscalingv1.Scale](gv, "") }

func evictionKind(gv schema.GroupVersion) *Kind { return virtual[policyv1.Eviction](gv, "") }

func bindingKind(gv schema.GroupVersion) *Kind {
	k := virtual[corev1.Binding](gv, "bindings")
	k.ClusterScoped = false
	return k
}

func componentStatusKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.ComponentStatus, corev1.ComponentStatusList](gv, "componentstatuses", "cs").inCluster()
	k.Virtual = true
	k.Verbs = []string{"get", "list"}
	k.Columns = componentStatusColumns()
	return k
}
