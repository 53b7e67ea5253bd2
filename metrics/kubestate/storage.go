package kubestate

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

func persistentVolume(e *emitter, v *corev1.PersistentVolume) {
	e.base = []string{"persistentvolume", v.Name}
	kv := []string{"storageclass", v.Spec.StorageClassName}
	if c := v.Spec.CSI; c != nil {
		kv = append(kv, "csi_driver", c.Driver, "csi_volume_handle", c.VolumeHandle)
	}
	if l := v.Spec.Local; l != nil {
		kv = append(kv, "local_path", l.Path, "local_fs", deref(l.FSType))
	}
	if h := v.Spec.HostPath; h != nil {
		kv = append(kv, "host_path", h.Path)
		if h.Type != nil {
			kv = append(kv, "host_path_type", string(*h.Type))
		}
	}
	if n := v.Spec.NFS; n != nil {
		kv = append(kv, "nfs_server", n.Server, "nfs_path", n.Path)
	}
	e.one("kube_persistentvolume_info", kv...)
	e.time("kube_persistentvolume_created", v.CreationTimestamp)
	e.timePtr("kube_persistentvolume_deletion_timestamp", v.DeletionTimestamp)
	e.labels("kube_persistentvolume_labels", v.Labels)
	e.oneOf("kube_persistentvolume_status_phase", "phase", string(v.Status.Phase), "Pending", "Available", "Bound", "Released", "Failed")
	if r := v.Spec.ClaimRef; r != nil {
		e.one("kube_persistentvolume_claim_ref", "name", r.Name, "claim_namespace", r.Namespace)
	}
	if q, ok := v.Spec.Capacity[corev1.ResourceStorage]; ok {
		e.add("kube_persistentvolume_capacity_bytes", float64(q.Value()))
	}
}

func persistentVolumeClaim(e *emitter, c *corev1.PersistentVolumeClaim) {
	e.base = []string{"namespace", c.Namespace, "persistentvolumeclaim", c.Name}
	mode := ""
	if c.Spec.VolumeMode != nil {
		mode = string(*c.Spec.VolumeMode)
	}
	e.one("kube_persistentvolumeclaim_info", "storageclass", deref(c.Spec.StorageClassName), "volumename", c.Spec.VolumeName, "volumemode", mode)
	e.time("kube_persistentvolumeclaim_created", c.CreationTimestamp)
	e.timePtr("kube_persistentvolumeclaim_deletion_timestamp", c.DeletionTimestamp)
	e.labels("kube_persistentvolumeclaim_labels", c.Labels)
	e.oneOf("kube_persistentvolumeclaim_status_phase", "phase", string(c.Status.Phase), "Lost", "Bound", "Pending")
	if q, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
		e.add("kube_persistentvolumeclaim_resource_requests_storage_bytes", float64(q.Value()))
	}
	for _, m := range c.Spec.AccessModes {
		e.one("kube_persistentvolumeclaim_access_mode", "access_mode", string(m))
	}
	for _, cond := range c.Status.Conditions {
		e.condition("kube_persistentvolumeclaim_status_condition", string(cond.Status), "condition", string(cond.Type))
	}
}

func storageClass(e *emitter, s *storagev1.StorageClass) {
	e.base = []string{"storageclass", s.Name}
	reclaim, binding := "", ""
	if s.ReclaimPolicy != nil {
		reclaim = string(*s.ReclaimPolicy)
	}
	if s.VolumeBindingMode != nil {
		binding = string(*s.VolumeBindingMode)
	}
	e.one("kube_storageclass_info", "provisioner", s.Provisioner, "reclaim_policy", reclaim, "volume_binding_mode", binding)
	e.time("kube_storageclass_created", s.CreationTimestamp)
	e.labels("kube_storageclass_labels", s.Labels)
}

func volumeAttachment(e *emitter, v *storagev1.VolumeAttachment) {
	e.base = []string{"volumeattachment", v.Name}
	e.one("kube_volumeattachment_info", "attacher", v.Spec.Attacher, "node", v.Spec.NodeName)
	e.time("kube_volumeattachment_created", v.CreationTimestamp)
	e.one("kube_volumeattachment_spec_source_persistentvolume", "volumename", deref(v.Spec.Source.PersistentVolumeName))
	e.flag("kube_volumeattachment_status_attached", v.Status.Attached)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
