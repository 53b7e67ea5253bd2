package volumeprotection

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// NewVolumes returns the controller that protects volumes.
func NewVolumes() controller.Controller {
	return controller.Controller{
		Name:    "pvprotection",
		Account: "pv-protection-controller",
		Inputs:  []controller.Input{{Resource: volumesResource, Keys: controller.Self}},
		Writes:  []string{"finalizers of persistentvolumes"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			volume, ok := controller.Get[*corev1.PersistentVolume](s, "", key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return protect(volume, "kubernetes.io/pv-protection", func() bool { return volume.Status.Phase == corev1.VolumeBound }), nil
		},
	}
}
