package bootstrap

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"binnacle.io/core/auth"
)

const (
	healthPaths  = "/livez /readyz /healthz /version /version/"
	healthDeep   = "/livez/* /readyz/* /healthz/*"
	apiPaths     = "/openapi /openapi/* /api /api/* /apis /apis/*"
	metricsPaths = "/metrics /metrics/slis"
)

// ClusterRoles returns the default cluster roles.
func ClusterRoles() []*rbacv1.ClusterRole {
	return slices.Concat(userRoles(), componentRoles(), controllerRoles())
}

// userRoles are for people and for what they install.
func userRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		clusterRole("cluster-admin", on(any, any, any), rbacv1.PolicyRule{NonResourceURLs: []string{any}, Verbs: []string{any}}),
		aggregated("admin"),
		aggregated("edit", "admin"),
		aggregated("view", "edit"),
		part("system:aggregate-to-view", []string{"view"}, viewRules()...),
		part("system:aggregate-to-edit", []string{"edit"}, editRules()...),
		part("system:aggregate-to-admin", []string{"admin"},
			on(authz, "localsubjectaccessreviews", "create"),
			on(rbac, "roles rolebindings", readWrite),
		),
		part("system:aggregated-metrics-reader", []string{"view", "edit", "admin"}, on(metrics, "pods nodes", read)),
		clusterRole("system:discovery", get(healthPaths+" "+apiPaths)),
		clusterRole("system:public-info-viewer", get(healthPaths)),
		clusterRole("system:monitoring", get(metricsPaths+" /flagz /statusz /livez /readyz /healthz "+healthDeep), on(core, "nodes/metrics", "get")),
		clusterRole("system:basic-user",
			on(authz, "selfsubjectaccessreviews selfsubjectrulesreviews", "create"),
			on(authn, "selfsubjectreviews", "create"),
		),
		clusterRole("system:service-account-issuer-discovery", get(auth.DiscoveryPath+" "+auth.DiscoveryPath+"/ "+auth.JWKSPath+" "+auth.JWKSPath+"/")),
	}
}

func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		on(core, "bindings configmaps endpoints events limitranges namespaces namespaces/status persistentvolumeclaims"+
			" persistentvolumeclaims/status pods pods/log pods/status replicationcontrollers replicationcontrollers/scale"+
			" replicationcontrollers/status resourcequotas resourcequotas/status serviceaccounts services services/status", read),
		on(discovery, "endpointslices", read),
		on(events, "events", read),
		on(apps, "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status"+
			" replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status", read),
		on(autoscaling, "horizontalpodautoscalers horizontalpodautoscalers/status", read),
		on(batch, "cronjobs cronjobs/status jobs jobs/status", read),
		on(extensions, "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status"+
			" networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale", read),
		on(policy, "poddisruptionbudgets poddisruptionbudgets/status", read),
		on(networking, "ingresses ingresses/status networkpolicies", read),
		on(dra, "resourceclaims resourceclaims/status resourceclaimtemplates", read),
	}
}

func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		on(core, "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", read),
		on(core, "serviceaccounts", "impersonate"),
		on(core, "pods pods/attach pods/exec pods/portforward pods/proxy", write),
		on(core, "pods/eviction", "create"),
		on(core, "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets"+
			" serviceaccounts services services/proxy", write),
		on(core, "serviceaccounts/token", "create"),
		on(events, "events", write),
		on(apps, "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale", write),
		on(autoscaling, "horizontalpodautoscalers", write),
		on(batch, "cronjobs jobs", write),
		on(extensions, "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets"+
			" replicasets/scale replicationcontrollers/scale", write),
		on(policy, "poddisruptionbudgets", write),
		on(networking, "ingresses networkpolicies", write),
		on(coordination, "leases", readWrite),
		on(dra, "resourceclaims resourceclaimtemplates", write),
	}
}

// componentRoles are for the parts of the cluster, ours and others'.
func componentRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		clusterRole("system:auth-delegator", on(authn, "tokenreviews", "create"), on(authz, "subjectaccessreviews", "create")),
		clusterRole("system:kubelet-api-admin",
			on(core, "nodes", "get list watch proxy"),
			on(core, "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats", any)),
		clusterRole("system:node", auth.NodeRules()...),
		clusterRole("system:node-bootstrapper", on(certificates, "certificatesigningrequests", "create get list watch")),
		clusterRole("system:node-problem-detector", append(writeEvents(),
			on(core, "nodes", "get"), on(core, "nodes/status", "patch"))...),
		clusterRole("system:node-proxier", append(writeEvents(),
			on(core, "services endpoints", "list watch"),
			on(core, "nodes", read),
			on(discovery, "endpointslices", "list watch"),
			on(networking, "servicecidrs", "list watch"))...),
		clusterRole("system:heapster",
			on(core, "events namespaces nodes pods", read), on(extensions, "deployments", read)),
		clusterRole("system:kube-dns",
			on(core, "endpoints services", "list watch")),
		clusterRole("system:coredns",
			on(core, "endpoints services pods namespaces", "list watch"),
			on(discovery, "endpointslices", "list watch")),
		clusterRole("system:kube-aggregator", on(core, "services endpoints", read)),
		clusterRole("system:kube-scheduler", schedulerRules()...),
		clusterRole("system:volume-scheduler",
			on(core, "persistentvolumes", "get list patch update watch"),
			on(storage, "storageclasses", read),
			on(core, "persistentvolumeclaims", "get list patch update watch")),
		clusterRole("system:persistent-volume-provisioner", append(writeEvents(),
			on(core, "persistentvolumes", "create delete get list watch"),
			on(core, "persistentvolumeclaims", "get list update watch"),
			on(storage, "storageclasses", read),
			on(core, "events", "watch"))...),
		clusterRole("system:kube-controller-manager", controllerManagerRules()...),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:nodeclient",
			on(certificates, "certificatesigningrequests/nodeclient", "create")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
			on(certificates, "certificatesigningrequests/selfnodeclient", "create")),
		clusterRole("system:certificates.k8s.io:kube-apiserver-client-approver", named(certificates, "signers", "kubernetes.io/kube-apiserver-client", "approve")),
		clusterRole("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
			named(certificates, "signers", "kubernetes.io/kube-apiserver-client-kubelet", "approve")),
		clusterRole("system:certificates.k8s.io:kubelet-serving-approver", named(certificates, "signers", "kubernetes.io/kubelet-serving", "approve")),
		clusterRole("system:certificates.k8s.io:legacy-unknown-approver", named(certificates, "signers", "kubernetes.io/legacy-unknown", "approve")),
		clusterRole("kubeadm:get-nodes", on(core, "nodes", "get")),
	}
}

func schedulerRules() []rbacv1.PolicyRule {
	return append(writeEvents(),
		on(coordination, "leases", "create"),
		named(coordination, "leases", "kube-scheduler", "get list update watch"),
		on(coordination, "leasecandidates", "create delete deletecollection get list patch update watch"),
		on(core, "nodes", read),
		on(core, "pods", "delete get list watch"),
		on(core, "bindings pods/binding", "create"),
		on(core, "pods/status", "patch update"),
		on(core, "replicationcontrollers services namespaces", read),
		on(apps, "replicasets statefulsets", read),
		on(extensions, "replicasets", read),
		on(policy, "poddisruptionbudgets", read),
		on(core, "persistentvolumeclaims persistentvolumes", read),
		on(authn, "tokenreviews", "create"),
		on(authz, "subjectaccessreviews", "create"),
		on(core, "pods/finalizers", "update"),
		on(storage, "csinodes csidrivers csistoragecapacities volumeattachments", read),
		on(dra, "deviceclasses resourceslices", read),
		on(dra, "resourceclaims", "create delete get list patch update watch"),
		on(dra, "resourceclaims/status", "get list patch update watch"),
		on(dra, "resourceclaims/binding", "patch update"),
	)
}

func controllerManagerRules() []rbacv1.PolicyRule {
	return append(writeEvents(),
		on(coordination, "leases", "create"),
		named(coordination, "leases", "kube-controller-manager", "get update"),
		on(core, "secrets serviceaccounts", "create"),
		on(core, "secrets", "delete"),
		on(core, "configmaps namespaces secrets serviceaccounts", "get"),
		on(core, "secrets serviceaccounts", "update"),
		on(authn, "tokenreviews", "create"),
		on(authz, "subjectaccessreviews", "create"),
		on(any, any, "list watch"),
		on(core, "serviceaccounts/token", "create"),
	)
}

// ClusterRoleBindings returns the default cluster role bindings.
func ClusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	everybody := []rbacv1.Subject{group(auth.GroupAuthenticated), group(auth.GroupUnauthenticated)}
	all := []*rbacv1.ClusterRoleBinding{
		clusterBinding("cluster-admin", "cluster-admin", group(auth.GroupMasters)),
		clusterBinding("kubeadm:cluster-admins", "cluster-admin", group("kubeadm:cluster-admins")),
		clusterBinding("system:monitoring", "system:monitoring", group("system:monitoring")),
		clusterBinding("system:discovery", "system:discovery", group(auth.GroupAuthenticated)),
		clusterBinding("system:basic-user", "system:basic-user", group(auth.GroupAuthenticated)),
		clusterBinding("system:public-info-viewer", "system:public-info-viewer", everybody...),
		clusterBinding("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", group(auth.GroupServiceAccounts)),
		clusterBinding("system:node-proxier", "system:node-proxier", user("system:kube-proxy")),
		clusterBinding("system:kube-controller-manager", "system:kube-controller-manager", user("system:kube-controller-manager")),
		clusterBinding("system:kube-dns", "system:kube-dns", account("kube-system", "kube-dns")),
		clusterBinding("system:coredns", "system:coredns", account("kube-system", "coredns")),
		clusterBinding("system:kube-scheduler", "system:kube-scheduler", user("system:kube-scheduler")),
		clusterBinding("system:volume-scheduler", "system:volume-scheduler", user("system:kube-scheduler")),
		// Nodes are authorized by the Node authorizer; upstream keeps the
		// binding, without subjects.
		clusterBinding("system:node", "system:node"),
		clusterBinding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", group("system:bootstrappers:kubeadm:default-node-token")),
		clusterBinding("kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
			group("system:bootstrappers:kubeadm:default-node-token")),
		clusterBinding("kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
			group(auth.GroupNodes)),
		clusterBinding("kubeadm:get-nodes", "kubeadm:get-nodes", group("system:bootstrappers:kubeadm:default-node-token")),
	}
	for _, c := range controllers() {
		all = append(all, clusterBinding("system:controller:"+c.name, "system:controller:"+c.name, account("kube-system", c.name)))
	}
	return all
}

// Roles returns the default roles in namespaces.
func Roles() []*rbacv1.Role {
	lock := func(name string) *rbacv1.Role {
		return role("kube-system", "system::leader-locking-"+name,
			on(coordination, "leases leasecandidates", "create get list update watch"))
	}
	return []*rbacv1.Role{
		role("kube-system", "extension-apiserver-authentication-reader",
			named(core, "configmaps", "extension-apiserver-authentication", "get list watch")),
		role("kube-system", "system:controller:bootstrap-signer", on(core, "secrets", read)),
		role("kube-system", "system:controller:token-cleaner", append(writeEvents(), on(core, "secrets", "get list watch delete"))...),
		role("kube-system", "system:controller:cloud-provider", on(core, "configmaps", "create get list watch")),
		lock("kube-controller-manager"),
		lock("kube-scheduler"),
		role("kube-public", "kubeadm:bootstrap-signer-clusterinfo", named(core, "configmaps", "cluster-info", "get")),
		role("kube-public", "system:controller:bootstrap-signer", append(writeEvents(),
			on(core, "configmaps", read), named(core, "configmaps", "cluster-info", "update"))...),
	}
}

// RoleBindings returns the default role bindings.
func RoleBindings() []*rbacv1.RoleBinding {
	manager, scheduler := user("system:kube-controller-manager"), user("system:kube-scheduler")
	return []*rbacv1.RoleBinding{
		roleBinding("kube-system", "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager",
			manager, account("kube-system", "kube-controller-manager"), account("kube-system", "leader-election-controller")),
		roleBinding("kube-system", "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler",
			scheduler, account("kube-system", "kube-scheduler")),
		roleBinding("kube-system", "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader", manager, scheduler),
		roleBinding("kube-system", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", account("kube-system", "bootstrap-signer")),
		roleBinding("kube-system", "system:controller:token-cleaner", "system:controller:token-cleaner", account("kube-system", "token-cleaner")),
		roleBinding("kube-system", "system:controller:cloud-provider", "system:controller:cloud-provider", account("kube-system", "cloud-provider")),
		roleBinding("kube-public", "kubeadm:bootstrap-signer-clusterinfo", "kubeadm:bootstrap-signer-clusterinfo", user(auth.Anonymous)),
		roleBinding("kube-public", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", account("kube-system", "bootstrap-signer")),
	}
}
