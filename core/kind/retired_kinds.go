package kind

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	coordinationv1 "k8s.io/api/coordination/v1"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	discoveryv1 "k8s.io/api/discovery/v1"
	discoveryv1beta1 "k8s.io/api/discovery/v1beta1"
	nodev1 "k8s.io/api/node/v1"
	nodev1beta1 "k8s.io/api/node/v1beta1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// addRetired gives kinds the versions that upstream no longer serves and that
// manifests still name.
func addRetired(kinds []*Kind) {
	by := map[string]*Kind{}
	for _, k := range kinds {
		by[k.GroupResource().String()] = k
	}
	add := func(resource string, versions ...Version) {
		by[resource].Versions = append(by[resource].Versions, versions...)
	}
	add("deployments.apps", retiredDeployments()...)
	add("replicasets.apps", retiredReplicaSets()...)
	add("daemonsets.apps", retiredDaemonSets()...)
	add("statefulsets.apps", retiredStatefulSets()...)
	add("controllerrevisions.apps", retiredRevisions()...)
	add("ingresses.networking.k8s.io", retiredIngresses()...)
	add("networkpolicies.networking.k8s.io", retiredNetworkPolicies()...)
	addRetiredRBAC(add)
	addRetiredStorage(add)

	add("cronjobs.batch", retiredVersion[batchv1beta1.CronJob, batchv1beta1.CronJobList](
		batchv1beta1.SchemeGroupVersion, batchv1.SchemeGroupVersion, fixes[*batchv1beta1.CronJob, *batchv1.CronJob]{}))
	add("poddisruptionbudgets.policy", retiredBudget())
	for _, k := range kinds {
		if k.Hub.Kind == "Eviction" {
			k.Versions = append(k.Versions, oldEviction())
		}
	}
	add("endpointslices.discovery.k8s.io", retiredEndpointSlice())
	add("leases.coordination.k8s.io", retiredVersion[coordinationv1beta1.Lease, coordinationv1beta1.LeaseList](
		coordinationv1beta1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion, fixes[*coordinationv1beta1.Lease, *coordinationv1.Lease]{}))
	add("priorityclasses.scheduling.k8s.io", retiredVersion[schedulingv1beta1.PriorityClass, schedulingv1beta1.PriorityClassList](
		schedulingv1beta1.SchemeGroupVersion, schedulingv1.SchemeGroupVersion, fixes[*schedulingv1beta1.PriorityClass, *schedulingv1.PriorityClass]{}))
	add("runtimeclasses.node.k8s.io", retiredVersion[nodev1beta1.RuntimeClass, nodev1beta1.RuntimeClassList](
		nodev1beta1.SchemeGroupVersion, nodev1.SchemeGroupVersion, fixes[*nodev1beta1.RuntimeClass, *nodev1.RuntimeClass]{}))
	addRetiredWebhooks(add)
}

func addRetiredRBAC(add func(string, ...Version)) {
	old, hub := rbacv1beta1.SchemeGroupVersion, rbacv1.SchemeGroupVersion
	add("roles.rbac.authorization.k8s.io", retiredVersion[rbacv1beta1.Role, rbacv1beta1.RoleList](old, hub, fixes[*rbacv1beta1.Role, *rbacv1.Role]{}))
	add("clusterroles.rbac.authorization.k8s.io", retiredVersion[rbacv1beta1.ClusterRole, rbacv1beta1.ClusterRoleList](old, hub, fixes[*rbacv1beta1.ClusterRole, *rbacv1.ClusterRole]{}))
	add("rolebindings.rbac.authorization.k8s.io", retiredVersion[rbacv1beta1.RoleBinding, rbacv1beta1.RoleBindingList](old, hub, fixes[*rbacv1beta1.RoleBinding, *rbacv1.RoleBinding]{}))
	add("clusterrolebindings.rbac.authorization.k8s.io", retiredVersion[rbacv1beta1.ClusterRoleBinding, rbacv1beta1.ClusterRoleBindingList](old, hub, fixes[*rbacv1beta1.ClusterRoleBinding, *rbacv1.ClusterRoleBinding]{}))
}

func addRetiredStorage(add func(string, ...Version)) {
	old, hub := storagev1beta1.SchemeGroupVersion, storagev1.SchemeGroupVersion
	add("storageclasses.storage.k8s.io", retiredVersion[storagev1beta1.StorageClass, storagev1beta1.StorageClassList](old, hub, fixes[*storagev1beta1.StorageClass, *storagev1.StorageClass]{}))
	add("volumeattachments.storage.k8s.io", retiredVersion[storagev1beta1.VolumeAttachment, storagev1beta1.VolumeAttachmentList](old, hub, fixes[*storagev1beta1.VolumeAttachment, *storagev1.VolumeAttachment]{}))
	add("csidrivers.storage.k8s.io", retiredVersion[storagev1beta1.CSIDriver, storagev1beta1.CSIDriverList](old, hub, fixes[*storagev1beta1.CSIDriver, *storagev1.CSIDriver]{}))
	add("csinodes.storage.k8s.io", retiredVersion[storagev1beta1.CSINode, storagev1beta1.CSINodeList](old, hub, fixes[*storagev1beta1.CSINode, *storagev1.CSINode]{}))
	add("csistoragecapacities.storage.k8s.io", retiredVersion[storagev1beta1.CSIStorageCapacity, storagev1beta1.CSIStorageCapacityList](old, hub, fixes[*storagev1beta1.CSIStorageCapacity, *storagev1.CSIStorageCapacity]{}))
	add("volumeattributesclasses.storage.k8s.io", retiredVersion[storagev1beta1.VolumeAttributesClass, storagev1beta1.VolumeAttributesClassList](old, hub, fixes[*storagev1beta1.VolumeAttributesClass, *storagev1.VolumeAttributesClass]{}))
}

// addRetiredWebhooks keeps the defaults of v1beta1, which failed open.
func addRetiredWebhooks(add func(string, ...Version)) {
	old, hub := admissionregistrationv1beta1.SchemeGroupVersion, admissionregistrationv1.SchemeGroupVersion
	type validating = admissionregistrationv1beta1.ValidatingWebhookConfiguration
	type mutating = admissionregistrationv1beta1.MutatingWebhookConfiguration
	add("validatingwebhookconfigurations.admissionregistration.k8s.io",
		retiredVersion[validating, admissionregistrationv1beta1.ValidatingWebhookConfigurationList](old, hub,
			fixes[*validating, *admissionregistrationv1.ValidatingWebhookConfiguration]{defaults: func(c *validating) {
				for i := range c.Webhooks {
					h := &c.Webhooks[i]
					oldWebhookDefaults(&h.FailurePolicy, &h.MatchPolicy, &h.TimeoutSeconds, &h.AdmissionReviewVersions)
				}
			}}))
	add("mutatingwebhookconfigurations.admissionregistration.k8s.io",
		retiredVersion[mutating, admissionregistrationv1beta1.MutatingWebhookConfigurationList](old, hub,
			fixes[*mutating, *admissionregistrationv1.MutatingWebhookConfiguration]{defaults: func(c *mutating) {
				for i := range c.Webhooks {
					h := &c.Webhooks[i]
					oldWebhookDefaults(&h.FailurePolicy, &h.MatchPolicy, &h.TimeoutSeconds, &h.AdmissionReviewVersions)
				}
			}}))
}

func oldWebhookDefaults(failure **admissionregistrationv1beta1.FailurePolicyType, match **admissionregistrationv1beta1.MatchPolicyType,
	timeout **int32, versions *[]string,
) {
	orPointer(failure, admissionregistrationv1beta1.Ignore)
	orPointer(match, admissionregistrationv1beta1.Exact)
	orPointer(timeout, 30)
	if len(*versions) == 0 {
		*versions = []string{"v1beta1"}
	}
}

// budgetEmptySelector says of a v1 selector that it was an empty one of
// v1beta1, which selected nothing where v1's selects all.
const budgetEmptySelector = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"

func retiredBudget() Version {
	type old = policyv1beta1.PodDisruptionBudget
	marker := func(op metav1.LabelSelectorOperator) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: budgetEmptySelector, Operator: op}}}
	}
	is := func(s *metav1.LabelSelector, op metav1.LabelSelectorOperator) bool {
		return s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 1 &&
			s.MatchExpressions[0].Key == budgetEmptySelector && s.MatchExpressions[0].Operator == op
	}
	empty := func(s *metav1.LabelSelector) bool { return s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 }
	return retiredVersion[old, policyv1beta1.PodDisruptionBudgetList](
		policyv1beta1.SchemeGroupVersion, policyv1.SchemeGroupVersion, fixes[*old, *policyv1.PodDisruptionBudget]{
			toHub: func(in *old, out *policyv1.PodDisruptionBudget) {
				switch {
				case empty(in.Spec.Selector):
					out.Spec.Selector = marker(metav1.LabelSelectorOpExists)
				case is(in.Spec.Selector, metav1.LabelSelectorOpDoesNotExist):
					out.Spec.Selector = &metav1.LabelSelector{}
				}
			},
			fromHub: func(in *policyv1.PodDisruptionBudget, out *old) {
				switch {
				case empty(in.Spec.Selector):
					out.Spec.Selector = marker(metav1.LabelSelectorOpDoesNotExist)
				case is(in.Spec.Selector, metav1.LabelSelectorOpExists):
					out.Spec.Selector = &metav1.LabelSelector{}
				}
			},
		})
}

// oldEviction is what clients from before policy/v1 post; it is still taken
// without a word.
func oldEviction() Version {
	type old = policyv1beta1.Eviction
	return typedVersion[old, old, *policyv1.Eviction](policyv1beta1.SchemeGroupVersion,
		func(in *old) (*policyv1.Eviction, error) {
			return &policyv1.Eviction{ObjectMeta: *in.ObjectMeta.DeepCopy(), DeleteOptions: in.DeleteOptions.DeepCopy()}, nil
		},
		func(in *policyv1.Eviction) (*old, error) {
			return &old{ObjectMeta: *in.ObjectMeta.DeepCopy(), DeleteOptions: in.DeleteOptions.DeepCopy()}, nil
		})
}

// retiredEndpointSlice had the zone and the node's name among the topology.
func retiredEndpointSlice() Version {
	type old = discoveryv1beta1.EndpointSlice
	const zone, host = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
	return retiredVersion[old, discoveryv1beta1.EndpointSliceList](
		discoveryv1beta1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, fixes[*old, *discoveryv1.EndpointSlice]{
			toHub: func(in *old, out *discoveryv1.EndpointSlice) {
				for i := range in.Endpoints {
					to := &out.Endpoints[i]
					for k, v := range in.Endpoints[i].Topology {
						switch {
						case k == zone:
							to.Zone = &v
						case k == host:
							// The name is in nodeName.
						default:
							if to.DeprecatedTopology == nil {
								to.DeprecatedTopology = map[string]string{}
							}
							to.DeprecatedTopology[k] = v
						}
					}
				}
			},
			fromHub: func(in *discoveryv1.EndpointSlice, out *old) {
				for i := range in.Endpoints {
					from, to := &in.Endpoints[i], &out.Endpoints[i]
					topology := map[string]string{}
					for k, v := range from.DeprecatedTopology {
						topology[k] = v
					}
					if from.Zone != nil {
						topology[zone] = *from.Zone
					}
					if from.NodeName != nil {
						topology[host] = *from.NodeName
					}
					if len(topology) > 0 {
						to.Topology = topology
					}
				}
			},
		})
}
