package kubestate

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"

	"binnacle.io/core/client"
)

// kind is a resource and how its objects become series.
type kind struct {
	resource client.Resource
	emit     func(*emitter, client.Object)
}

// of makes a kind of a typed function. An object of another type, which a
// client that keeps its promises never delivers, has no series.
func of[T client.Object](group, resource string, f func(*emitter, T)) kind {
	return kind{client.Resource{Group: group, Resource: resource}, func(e *emitter, o client.Object) {
		if t, ok := o.(T); ok {
			f(e, t)
		}
	}}
}

func kinds() []kind {
	return []kind{
		of[*corev1.Pod]("", "pods", pod),
		of[*corev1.Node]("", "nodes", node),
		of[*corev1.Namespace]("", "namespaces", namespace),
		of[*corev1.Service]("", "services", service),
		of[*corev1.Endpoints]("", "endpoints", endpoints),
		of[*corev1.ConfigMap]("", "configmaps", configMap),
		of[*corev1.Secret]("", "secrets", secret),
		of[*corev1.ServiceAccount]("", "serviceaccounts", serviceAccount),
		of[*corev1.ReplicationController]("", "replicationcontrollers", replicationController),
		of[*corev1.ResourceQuota]("", "resourcequotas", resourceQuota),
		of[*corev1.LimitRange]("", "limitranges", limitRange),
		of[*corev1.PersistentVolume]("", "persistentvolumes", persistentVolume),
		of[*corev1.PersistentVolumeClaim]("", "persistentvolumeclaims", persistentVolumeClaim),
		of[*appsv1.Deployment]("apps", "deployments", deployment),
		of[*appsv1.ReplicaSet]("apps", "replicasets", replicaSet),
		of[*appsv1.DaemonSet]("apps", "daemonsets", daemonSet),
		of[*appsv1.StatefulSet]("apps", "statefulsets", statefulSet),
		of[*batchv1.Job]("batch", "jobs", job),
		of[*batchv1.CronJob]("batch", "cronjobs", cronJob),
		of[*autoscalingv2.HorizontalPodAutoscaler]("autoscaling", "horizontalpodautoscalers", horizontalPodAutoscaler),
		of[*policyv1.PodDisruptionBudget]("policy", "poddisruptionbudgets", podDisruptionBudget),
		of[*discoveryv1.EndpointSlice]("discovery.k8s.io", "endpointslices", endpointSlice),
		of[*networkingv1.Ingress]("networking.k8s.io", "ingresses", ingress),
		of[*networkingv1.NetworkPolicy]("networking.k8s.io", "networkpolicies", networkPolicy),
		of[*storagev1.StorageClass]("storage.k8s.io", "storageclasses", storageClass),
		of[*storagev1.VolumeAttachment]("storage.k8s.io", "volumeattachments", volumeAttachment),
		of[*coordinationv1.Lease]("coordination.k8s.io", "leases", lease),
		of[*certificatesv1.CertificateSigningRequest]("certificates.k8s.io", "certificatesigningrequests", certificateSigningRequest),
	}
}

// Resources lists the resources that have series.
func Resources() []client.Resource {
	var list []client.Resource
	for _, k := range kinds() {
		list = append(list, k.resource)
	}
	return list
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
