package bootstrap

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// controller is the policy of one controller, which acts as the account of
// its name in kube-system.
type controller struct {
	name  string
	rules []rbacv1.PolicyRule
}

func controllerRoles() []*rbacv1.ClusterRole {
	var roles []*rbacv1.ClusterRole
	for _, c := range controllers() {
		roles = append(roles, clusterRole("system:controller:"+c.name, c.rules...))
	}
	return roles
}

func controllers() []controller {
	withEvents := func(rules ...rbacv1.PolicyRule) []rbacv1.PolicyRule { return append(rules, writeEvents()...) }
	return []controller{
		{"attachdetach-controller", withEvents(
			on(core, "persistentvolumes persistentvolumeclaims", "list watch"),
			on(core, "nodes", read), on(core, "nodes/status", "patch update"),
			on(core, "pods", "list watch"),
			on(storage, "volumeattachments", "get list watch create delete"),
			on(storage, "csidrivers csinodes", read))},
		{"certificate-controller", withEvents(
			on(certificates, "certificatesigningrequests", "get list watch delete"),
			on(certificates, "certificatesigningrequests/status certificatesigningrequests/approval", "update"),
			named(certificates, "signers", "kubernetes.io/kube-apiserver-client-kubelet", "approve"),
			named(certificates, "signers", "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet"+
				" kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown", "sign"),
			on(authz, "subjectaccessreviews", "create"))},
		{"clusterrole-aggregation-controller", []rbacv1.PolicyRule{on(rbac, "clusterroles", "escalate get list patch update watch")}},
		{"cronjob-controller", withEvents(
			on(batch, "cronjobs", "get list update watch"), on(batch, "cronjobs/status cronjobs/finalizers", "update"),
			on(batch, "jobs", "create delete get list patch update watch"), on(core, "pods", "delete list watch"))},
		{"daemon-set-controller", withEvents(
			on(extensions, "daemonsets", read), on(apps, "daemonsets", read),
			on(extensions, "daemonsets/status daemonsets/finalizers", "update"), on(apps, "daemonsets/status daemonsets/finalizers", "update"),
			on(core, "nodes", "list watch"), on(core, "pods", "create delete list patch watch"), on(core, "pods/binding", "create"),
			on(apps, "controllerrevisions", "create delete get list patch update watch"))},
		{"deployment-controller", withEvents(
			on(apps, "deployments", "get list update watch"), on(apps, "deployments/status deployments/finalizers", "update"),
			on(extensions, "deployments", "get list update watch"), on(extensions, "deployments/status deployments/finalizers", "update"),
			on(extensions, "replicasets", "create delete get list patch update watch"),
			on(apps, "replicasets", "create delete get list patch update watch"), on(core, "pods", "get list update watch"))},
		{"device-taint-eviction-controller", withEvents(
			on(core, "pods", "delete get list watch"), on(core, "pods/status", "patch update"),
			on(dra, "deviceclasses resourceclaims resourceslices", read))},
		{"disruption-controller", withEvents(
			on(extensions, "deployments replicasets", read), on(apps, "deployments replicasets statefulsets", read), on(core, "replicationcontrollers", read),
			on(policy, "poddisruptionbudgets", read), on(policy, "poddisruptionbudgets/status", "update"),
			on(core, "pods/status", "patch update"), on(any, "*/scale", "get"))},
		{"endpoint-controller", withEvents(
			on(core, "pods services", read), on(core, "endpoints", "create delete get list update watch"), on(core, "endpoints/restricted", "create"))},
		{"endpointslice-controller", withEvents(
			on(core, "nodes pods services", read), on(core, "services/finalizers", "update"),
			on(discovery, "endpointslices", "create delete get list update watch"))},
		{"endpointslicemirroring-controller", withEvents(
			on(core, "endpoints services", read), on(core, "services/finalizers endpoints/finalizers", "update"),
			on(discovery, "endpointslices", "create delete get list update watch"))},
		{"ephemeral-volume-controller", withEvents(
			on(core, "pods", read), on(core, "pods/finalizers", "update"), on(core, "persistentvolumeclaims", "create get list watch"))},
		{"expand-controller", withEvents(
			on(core, "persistentvolumes", "get list patch update watch"), on(core, "persistentvolumeclaims", read),
			on(core, "persistentvolumeclaims/status", "patch update"))},
		{"generic-garbage-collector", withEvents(on(any, any, "delete get list patch update watch"))},
		{"horizontal-pod-autoscaler", withEvents(
			on(autoscaling, "horizontalpodautoscalers", read), on(autoscaling, "horizontalpodautoscalers/status", "update"),
			on(any, "*/scale", "get update"), on(core, "pods", "list watch"),
			on(metrics, "pods", "list watch"), on(customMetrics, any, read), on(extMetrics, any, read))},
		{"job-controller", withEvents(
			on(batch, "jobs", "get list patch update watch"), on(batch, "jobs/status jobs/finalizers", "update"),
			on(core, "pods", "create delete list patch watch"))},
		{"legacy-service-account-token-cleaner", []rbacv1.PolicyRule{
			named(core, "configmaps", "kube-apiserver-legacy-service-account-token-tracking", "get"), on(core, "secrets", "delete patch")}},
		{"namespace-controller", []rbacv1.PolicyRule{
			on(core, "namespaces", "delete get list watch"), on(core, "namespaces/finalize namespaces/status", "update"),
			on(any, any, "delete deletecollection get list watch")}},
		{"node-controller", withEvents(
			on(core, "nodes", "delete get list patch update watch"), on(core, "nodes/status", "patch update"),
			on(core, "pods/status", "patch update"), on(core, "pods", "delete get list watch"))},
		{"persistent-volume-binder", withEvents(
			on(core, "persistentvolumes", "create delete get list update watch"), on(core, "persistentvolumes/status", "update"),
			on(core, "persistentvolumeclaims", "get list update watch"), on(core, "persistentvolumeclaims/status", "update"),
			on(core, "pods", "create delete get list watch"), on(storage, "storageclasses", read),
			on(core, "nodes", "list watch"), on(core, "events", "watch"))},
		{"pod-garbage-collector", []rbacv1.PolicyRule{on(core, "pods", "delete list watch"), on(core, "nodes", "get list watch"), on(core, "pods/status", "patch")}},
		{"pv-protection-controller", withEvents(on(core, "persistentvolumes", "get list update watch"))},
		{"pvc-protection-controller", withEvents(on(core, "persistentvolumeclaims", "get list update watch"), on(core, "persistentvolumeclaims/status", "update"), on(core, "pods", read))},
		{"replicaset-controller", withEvents(
			on(extensions, "replicasets", "get list update watch"), on(extensions, "replicasets/status replicasets/finalizers", "update"),
			on(apps, "replicasets", "get list update watch"),
			on(apps, "replicasets/status replicasets/finalizers", "update"), on(core, "pods", "create delete list patch watch"))},
		{"replication-controller", withEvents(
			on(core, "replicationcontrollers", "get list update watch"), on(core, "replicationcontrollers/status replicationcontrollers/finalizers", "update"),
			on(core, "pods", "create delete list patch watch"))},
		{"resource-claim-controller", withEvents(
			on(core, "pods", read), on(core, "pods/finalizers", "update"), on(dra, "resourceclaims", "create delete get list patch update watch"),
			on(dra, "resourceclaims/status resourceclaims/binding", "patch update"), on(core, "pods/status", "patch update"))},
		{"resourcequota-controller", withEvents(on(any, any, "list watch"), on(core, "resourcequotas/status", "update"))},
		{"root-ca-cert-publisher", withEvents(on(core, "configmaps", "create update"))},
		{"route-controller", withEvents(on(core, "nodes", "list watch"), on(core, "nodes/status", "patch"))},
		{"selinux-warning-controller", withEvents(
			on(core, "persistentvolumes persistentvolumeclaims pods", read), on(storage, "csidrivers", read))},
		{"service-account-controller", withEvents(on(core, "serviceaccounts", "create"))},
		{"service-controller", withEvents(
			on(core, "services", read), on(core, "services/status", "patch update"), on(core, "nodes", "list watch"))},
		{"service-cidrs-controller", withEvents(
			on(networking, "servicecidrs", "get list patch update watch"), on(networking, "servicecidrs/finalizers", "patch update"),
			on(networking, "servicecidrs/status", "patch update"), on(networking, "ipaddresses", read))},
		{"statefulset-controller", withEvents(
			on(core, "pods", read), on(core, "pods/finalizers", "update"), on(apps, "statefulsets", read), on(apps, "statefulsets/status statefulsets/finalizers", "update"),
			on(core, "pods", "create delete get patch update"), on(apps, "controllerrevisions", "create delete get list patch update watch"),
			on(core, "persistentvolumeclaims", "create delete get list update watch"))},
		{"ttl-controller", withEvents(on(core, "nodes", "list patch update watch"))},
		{"ttl-after-finished-controller", withEvents(on(batch, "jobs", "delete get list watch"))},
		{"validatingadmissionpolicy-status-controller", withEvents(
			on(admissionreg, "validatingadmissionpolicies", read), on(admissionreg, "validatingadmissionpolicies/status", "get patch update"))},
		{"volumeattributesclass-protection-controller", withEvents(
			on(core, "persistentvolumes persistentvolumeclaims", read), on(storage, "volumeattributesclasses", "get list update watch"))},
	}
}
