package auth

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/client"
)

// refersTo reports whether pod names the object of a core resource in its own
// namespace.
func refersTo(pod *corev1.Pod, resource, name string) bool {
	switch resource {
	case "serviceaccounts":
		return pod.Spec.ServiceAccountName == name
	case "secrets":
		return slices.Contains(PodSecrets(pod), name)
	case "configmaps":
		return slices.Contains(podConfigMaps(pod), name)
	case "persistentvolumeclaims":
		return slices.Contains(podClaims(pod), name)
	case "resourceclaims":
		return slices.Contains(podResourceClaims(pod), name)
	}
	return false
}

// RefersTo says what kind of object a pod needs from the API, in upstream's
// words, or "" when it needs none.
func RefersTo(pod *corev1.Pod) string {
	switch {
	case pod.Spec.ServiceAccountName != "":
		return "serviceaccounts"
	case len(PodSecrets(pod)) > 0:
		return "secrets"
	case len(podConfigMaps(pod)) > 0:
		return "configmaps"
	case len(pod.Spec.ResourceClaims) > 0:
		return "resourceclaims"
	}
	for i := range pod.Spec.Volumes {
		if what := volumeRefersTo(&pod.Spec.Volumes[i].VolumeSource); what != "" {
			return what
		}
	}
	return ""
}

func volumeRefersTo(v *corev1.VolumeSource) string {
	switch {
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)"
	case v.Glusterfs != nil:
		return "endpoints (via glusterFS volumes)"
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims"
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)"
	case v.Projected == nil:
		return ""
	}
	for _, s := range v.Projected.Sources {
		switch {
		case s.ServiceAccountToken != nil:
			return "serviceaccounts (via projected volumes)"
		case s.ClusterTrustBundle != nil:
			return "clustertrustbundles"
		case s.PodCertificate != nil:
			return "podcertificates"
		}
	}
	return ""
}

// podResourceClaims are the claims that have been made or named for pod.
func podResourceClaims(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			names = append(names, *c.ResourceClaimName)
		}
	}
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil {
			names = append(names, *s.ResourceClaimName)
		}
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil && s.ResourceClaimName != "" {
		names = append(names, s.ResourceClaimName)
	}
	return names
}

// volumeSecrets are the Secrets that mounting a volume needs on the node.
func volumeSecrets(pv *corev1.PersistentVolume) []client.Key {
	var keys []client.Key
	claimed := ""
	if pv.Spec.ClaimRef != nil {
		claimed = pv.Spec.ClaimRef.Namespace
	}
	add := func(r *corev1.SecretReference) {
		if r == nil || r.Name == "" {
			return
		}
		key := client.Key{Namespace: r.Namespace, Name: r.Name}
		if key.Namespace == "" {
			key.Namespace = claimed
		}
		keys = append(keys, key)
	}
	switch v := &pv.Spec.PersistentVolumeSource; {
	case v.CSI != nil:
		add(v.CSI.NodePublishSecretRef)
		add(v.CSI.NodeStageSecretRef)
		add(v.CSI.NodeExpandSecretRef)
	case v.AzureFile != nil:
		r := &corev1.SecretReference{Name: v.AzureFile.SecretName}
		if v.AzureFile.SecretNamespace != nil {
			r.Namespace = *v.AzureFile.SecretNamespace
		}
		add(r)
	case v.CephFS != nil:
		add(v.CephFS.SecretRef)
	case v.Cinder != nil:
		add(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		add(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		add(v.ISCSI.SecretRef)
	case v.RBD != nil:
		add(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		add(v.ScaleIO.SecretRef)
	case v.StorageOS != nil && v.StorageOS.SecretRef != nil:
		add(&corev1.SecretReference{Namespace: v.StorageOS.SecretRef.Namespace, Name: v.StorageOS.SecretRef.Name})
	}
	return keys
}

// eachContainer calls f with every container's environment sources.
func eachContainer(pod *corev1.Pod, f func(env []corev1.EnvVar, from []corev1.EnvFromSource)) {
	for i := range pod.Spec.InitContainers {
		f(pod.Spec.InitContainers[i].Env, pod.Spec.InitContainers[i].EnvFrom)
	}
	for i := range pod.Spec.Containers {
		f(pod.Spec.Containers[i].Env, pod.Spec.Containers[i].EnvFrom)
	}
	for i := range pod.Spec.EphemeralContainers {
		f(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom)
	}
}

// PodSecrets are the Secrets that pod refers to, by name.
func PodSecrets(pod *corev1.Pod) []string {
	var names []string
	for _, r := range pod.Spec.ImagePullSecrets {
		names = append(names, r.Name)
	}
	eachContainer(pod, func(env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				names = append(names, e.ValueFrom.SecretKeyRef.Name)
			}
		}
		for _, f := range from {
			if f.SecretRef != nil {
				names = append(names, f.SecretRef.Name)
			}
		}
	})
	local := func(r *corev1.LocalObjectReference) {
		if r != nil {
			names = append(names, r.Name)
		}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i].VolumeSource
		switch {
		case v.Secret != nil:
			names = append(names, v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					names = append(names, s.Secret.Name)
				}
			}
		case v.CSI != nil:
			local(v.CSI.NodePublishSecretRef)
		case v.ISCSI != nil:
			local(v.ISCSI.SecretRef)
		case v.CephFS != nil:
			local(v.CephFS.SecretRef)
		case v.RBD != nil:
			local(v.RBD.SecretRef)
		case v.FlexVolume != nil:
			local(v.FlexVolume.SecretRef)
		case v.AzureFile != nil:
			names = append(names, v.AzureFile.SecretName)
		case v.ScaleIO != nil:
			local(v.ScaleIO.SecretRef)
		case v.StorageOS != nil:
			local(v.StorageOS.SecretRef)
		case v.Cinder != nil:
			local(v.Cinder.SecretRef)
		}
	}
	return names
}

func podConfigMaps(pod *corev1.Pod) []string {
	var names []string
	eachContainer(pod, func(env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				names = append(names, e.ValueFrom.ConfigMapKeyRef.Name)
			}
		}
		for _, f := range from {
			if f.ConfigMapRef != nil {
				names = append(names, f.ConfigMapRef.Name)
			}
		}
	})
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i].VolumeSource
		if v.ConfigMap != nil {
			names = append(names, v.ConfigMap.Name)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				names = append(names, s.ConfigMap.Name)
			}
		}
	}
	return names
}

func podClaims(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil {
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		}
		if v.Ephemeral != nil {
			names = append(names, pod.Name+"-"+v.Name)
		}
	}
	return names
}
