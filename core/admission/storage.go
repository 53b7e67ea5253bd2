package admission

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"

	"binnacle.io/core/client"
)

// StorageObjectInUseProtection marks claims, volumes and volume attributes
// classes so that they stay as long as they are used. The controllers of package
// volumeprotection take the marks off again; without them nothing marked is ever
// deleted.
type StorageObjectInUseProtection struct{ only }

// NewStorageObjectInUseProtection returns the plugin.
func NewStorageObjectInUseProtection() StorageObjectInUseProtection {
	return StorageObjectInUseProtection{only{[]Operation{Create}, []client.Resource{pvcResource, pvResource, attributesResource}}}
}

func (StorageObjectInUseProtection) Name() string { return "StorageObjectInUseProtection" }

func (StorageObjectInUseProtection) Admit(_ context.Context, a *Attributes) error {
	mark := "kubernetes.io/pvc-protection"
	switch a.Resource {
	case pvResource:
		mark = "kubernetes.io/pv-protection"
	case attributesResource:
		mark = "kubernetes.io/vac-protection"
	}
	if have := a.Object.GetFinalizers(); !slices.Contains(have, mark) {
		a.Object.SetFinalizers(append(slices.Clone(have), mark))
	}
	return nil
}

// DefaultStorageClass gives claims that name no class the default one.
type DefaultStorageClass struct {
	only
	c client.Client
}

// NewDefaultStorageClass returns the plugin.
func NewDefaultStorageClass(c client.Client) *DefaultStorageClass {
	return &DefaultStorageClass{on(pvcResource, Create), c}
}

func (*DefaultStorageClass) Name() string { return "DefaultStorageClass" }

func (p *DefaultStorageClass) Admit(ctx context.Context, a *Attributes) error {
	pvc, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || pvc.Spec.StorageClassName != nil {
		return nil
	}
	if _, said := pvc.Annotations[corev1.BetaStorageClassAnnotation]; said {
		return nil
	}
	class, err := standard[*storagev1.StorageClass](ctx, p.c,
		"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
	if err != nil {
		return fmt.Errorf("cannot look up the default storage class: %w", err)
	}
	if class != nil {
		name := class.GetName()
		pvc.Spec.StorageClassName = &name
	}
	return nil
}

// DefaultIngressClass gives Ingresses that name no class the default one.
type DefaultIngressClass struct {
	only
	c client.Client
}

// NewDefaultIngressClass returns the plugin.
func NewDefaultIngressClass(c client.Client) *DefaultIngressClass {
	return &DefaultIngressClass{on(ingressResource, Create), c}
}

func (*DefaultIngressClass) Name() string { return "DefaultIngressClass" }

func (p *DefaultIngressClass) Admit(ctx context.Context, a *Attributes) error {
	ingress, ok := a.Object.(*networkingv1.Ingress)
	if !ok || ingress.Spec.IngressClassName != nil {
		return nil
	}
	if _, said := ingress.Annotations["kubernetes.io/ingress.class"]; said {
		return nil
	}
	class, err := standard[*networkingv1.IngressClass](ctx, p.c, networkingv1.AnnotationIsDefaultIngressClass)
	if err != nil {
		return fmt.Errorf("cannot look up the default ingress class: %w", err)
	}
	if class != nil {
		name := class.GetName()
		ingress.Spec.IngressClassName = &name
	}
	return nil
}

// standard returns the newest class that one of the annotations makes the
// default, by name among equals, or nil.
func standard[T client.Object](ctx context.Context, c client.Client, annotations ...string) (client.Object, error) {
	classes, _, err := client.ListOf[T](ctx, c, client.ReadOptions{FromCache: true})
	if err != nil {
		return nil, err
	}
	classes = slices.DeleteFunc(classes, func(o T) bool {
		return !slices.ContainsFunc(annotations, func(a string) bool { return o.GetAnnotations()[a] == "true" })
	})
	if len(classes) == 0 {
		return nil, nil
	}
	return slices.MinFunc(classes, func(a, b T) int {
		return cmp.Or(b.GetCreationTimestamp().Compare(a.GetCreationTimestamp().Time), cmp.Compare(a.GetName(), b.GetName()))
	}), nil
}
