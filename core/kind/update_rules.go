package kind

// addUpdateRules marks the kinds whose PUT has other rules than most: it may
// create the object, or must say of which resourceVersion it is. The list is
// upstream's strategies, as testdata/semantics of package api records them.
func addUpdateRules(kinds []*Kind) {
	by := map[string]*Kind{}
	for _, k := range kinds {
		by[k.GroupResource().String()] = k
	}
	for _, name := range []string{
		"endpoints", "events", "limitranges", "services",
		"leases.coordination.k8s.io", "runtimeclasses.node.k8s.io",
		"clusterrolebindings.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io",
		"rolebindings.rbac.authorization.k8s.io", "roles.rbac.authorization.k8s.io",
	} {
		by[name].CreateOnUpdate = true
	}
	for _, name := range []string{
		"leases.coordination.k8s.io", "poddisruptionbudgets.policy",
		"mutatingadmissionpolicies.admissionregistration.k8s.io", "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
		"mutatingwebhookconfigurations.admissionregistration.k8s.io",
		"validatingadmissionpolicies.admissionregistration.k8s.io", "validatingadmissionpolicybindings.admissionregistration.k8s.io",
		"validatingwebhookconfigurations.admissionregistration.k8s.io",
		"runtimeclasses.node.k8s.io",
		"csidrivers.storage.k8s.io", "csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io", "volumeattachments.storage.k8s.io",
	} {
		by[name].VersionedUpdate = true
	}
	by["jobs.batch"].OrphanWarning = "child pods are preserved by default when jobs are deleted; " +
		"set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
}
