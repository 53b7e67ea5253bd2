package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
)

// NamespaceLifecycle keeps objects out of namespaces that do not exist or are
// going away, and keeps the system namespaces.
type NamespaceLifecycle struct{ c client.Client }

// NewNamespaceLifecycle returns the plugin.
func NewNamespaceLifecycle(c client.Client) *NamespaceLifecycle { return &NamespaceLifecycle{c} }

func (*NamespaceLifecycle) Name() string { return "NamespaceLifecycle" }

func (*NamespaceLifecycle) Handles(op Operation, r client.Resource, _ string) bool {
	if r == namespaceResource {
		return op == Delete
	}
	return (op == Create || op == Update) && r.Group != "authorization.k8s.io"
}

func (p *NamespaceLifecycle) Admit(ctx context.Context, a *Attributes) error {
	if a.Resource == namespaceResource {
		switch a.Key.Name {
		case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
			return refuse(a, fmt.Errorf("this namespace may not be deleted"))
		}
		return nil
	}
	if a.Key.Namespace == "" {
		return nil
	}
	ns, err := client.GetCached[*corev1.Namespace](ctx, p.c, "", a.Key.Namespace)
	if apierrors.IsNotFound(err) {
		ns, err = client.Get[*corev1.Namespace](ctx, p.c, "", a.Key.Namespace)
	}
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(namespaceResource, a.Key.Namespace)
	}
	if err != nil {
		return fmt.Errorf("cannot look up namespace %q: %w", a.Key.Namespace, err)
	}
	if a.Op != Create || ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	refusal := refuse(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", ns.Name))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", ns.Name),
		Field:   "metadata.namespace",
	})
	return refusal
}
