package admission

import (
	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/client"
)

// The resources that built-in plugins look at.
var (
	podResource         = client.Resource{Resource: "pods"}
	serviceResource     = client.Resource{Resource: "services"}
	namespaceResource   = client.Resource{Resource: "namespaces"}
	nodeResource        = client.Resource{Resource: "nodes"}
	pvcResource         = client.Resource{Resource: "persistentvolumeclaims"}
	pvResource          = client.Resource{Resource: "persistentvolumes"}
	attributesResource  = client.Resource{Group: "storage.k8s.io", Resource: "volumeattributesclasses"}
	accountResource     = client.Resource{Resource: "serviceaccounts"}
	podTemplateResource = client.Resource{Resource: "podtemplates"}
	rcResource          = client.Resource{Resource: "replicationcontrollers"}
	priorityResource    = client.Resource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}
	ingressResource     = client.Resource{Group: "networking.k8s.io", Resource: "ingresses"}
	csrResource         = client.Resource{Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}
	leaseResource       = client.Resource{Group: "coordination.k8s.io", Resource: "leases"}
	sliceResource       = client.Resource{Group: "resource.k8s.io", Resource: "resourceslices"}
	podCertResource     = client.Resource{Group: "certificates.k8s.io", Resource: "podcertificaterequests"}
	csiNodeResource     = client.Resource{Group: "storage.k8s.io", Resource: "csinodes"}
	rolesResource       = client.Resource{Group: "rbac.authorization.k8s.io", Resource: "roles"}
	cRolesResource      = client.Resource{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}
	bindingsResource    = client.Resource{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"}
	cBindingsResource   = client.Resource{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}
	deploymentResource  = client.Resource{Group: "apps", Resource: "deployments"}
	replicaSetResource  = client.Resource{Group: "apps", Resource: "replicasets"}
	statefulResource    = client.Resource{Group: "apps", Resource: "statefulsets"}
	daemonSetResource   = client.Resource{Group: "apps", Resource: "daemonsets"}
	jobResource         = client.Resource{Group: "batch", Resource: "jobs"}
	cronJobResource     = client.Resource{Group: "batch", Resource: "cronjobs"}
)

// only is embedded by plugins that look at some operations on some resources
// themselves, not on their subresources.
type only struct {
	ops       []Operation
	resources []client.Resource
}

func (o only) Handles(op Operation, r client.Resource, sub string) bool {
	if sub != "" {
		return false
	}
	for _, have := range o.ops {
		if have != op {
			continue
		}
		for _, h := range o.resources {
			if h == r {
				return true
			}
		}
	}
	return false
}

func on(r client.Resource, ops ...Operation) only { return only{ops, []client.Resource{r}} }

// containers calls f with every container of a pod, init containers first.
func containers(pod *corev1.PodSpec, f func(c *corev1.Container, init bool)) {
	for i := range pod.InitContainers {
		f(&pod.InitContainers[i], true)
	}
	for i := range pod.Containers {
		f(&pod.Containers[i], false)
	}
}
