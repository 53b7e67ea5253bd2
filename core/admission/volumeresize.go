package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"binnacle.io/core/client"
)

// PersistentVolumeClaimResize lets claims grow only where their storage class
// allows it.
type PersistentVolumeClaimResize struct {
	only
	c client.Client
}

// NewPersistentVolumeClaimResize returns the plugin.
func NewPersistentVolumeClaimResize(c client.Client) *PersistentVolumeClaimResize {
	return &PersistentVolumeClaimResize{on(pvcResource, Update), c}
}

func (*PersistentVolumeClaimResize) Name() string { return "PersistentVolumeClaimResize" }

func (p *PersistentVolumeClaimResize) Validate(ctx context.Context, a *Attributes) error {
	now, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, ok2 := a.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !ok2 {
		return nil
	}
	size, had := now.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if size.Cmp(had) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return refuse(a, fmt.Errorf("only bound persistent volume claims can be expanded"))
	}
	name := old.Annotations[corev1.BetaStorageClassAnnotation]
	if name == "" && old.Spec.StorageClassName != nil {
		name = *old.Spec.StorageClassName
	}
	if name != "" {
		class, err := client.GetCached[*storagev1.StorageClass](ctx, p.c, "", name)
		if err == nil && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
			return nil
		}
	}
	return refuse(a, fmt.Errorf("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
}
