package volumeprotection

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// NewClasses returns the controller that protects volume attributes classes.
func NewClasses() controller.Controller {
	return controller.Controller{
		Name:    "vacprotection",
		Account: "volumeattributesclass-protection-controller",
		Inputs: []controller.Input{
			{Resource: classesResource, Keys: controller.Self},
			{Resource: claimsResource, Keys: classKeys},
			{Resource: volumesResource, Keys: classKeys},
		},
		Writes: []string{"finalizers of volumeattributesclasses.storage.k8s.io"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			class, ok := controller.Get[*storagev1.VolumeAttributesClass](s, "", key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return protect(class, "kubernetes.io/vac-protection", func() bool {
				names := func(o client.Object) bool { return slices.Contains(classesOf(o), class.Name) }
				return slices.ContainsFunc(s.List(volumesResource, ""), names) || slices.ContainsFunc(s.List(claimsResource, ""), names)
			}), nil
		},
	}
}

func classKeys(_ controller.State, obj client.Object) (keys []client.Key) {
	for _, name := range classesOf(obj) {
		keys = append(keys, client.Key{Name: name})
	}
	return keys
}

// classesOf names the classes of a volume, or of a claim: asked for, in force,
// and on the way from one to the other.
func classesOf(obj client.Object) []string {
	var names []string
	switch o := obj.(type) {
	case *corev1.PersistentVolume:
		names = []string{ptr.Deref(o.Spec.VolumeAttributesClassName, "")}
	case *corev1.PersistentVolumeClaim:
		names = []string{ptr.Deref(o.Spec.VolumeAttributesClassName, ""), ptr.Deref(o.Status.CurrentVolumeAttributesClassName, "")}
		if m := o.Status.ModifyVolumeStatus; m != nil {
			names = append(names, m.TargetVolumeAttributesClassName)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}
