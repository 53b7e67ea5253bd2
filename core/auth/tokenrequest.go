package auth

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/client"
)

const (
	minTokenSeconds     = 600
	maxTokenSeconds     = 1 << 32
	defaultTokenSeconds = 3600
	// mountedTokenSeconds marks the tokens that admission mounts into pods;
	// nobody else asks for this odd number.
	mountedTokenSeconds = 3607
	extendedLife        = 365 * 24 * time.Hour
)

// Request answers a TokenRequest posted to an account's token subresource: it
// completes and checks the spec, reads the bound object, and fills in the
// status. req is changed in place.
func (t *Tokens) Request(ctx context.Context, c client.Client, sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest) error {
	if err := completeTokenRequest(sa, req); err != nil {
		return err
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = t.cfg.Audiences
	}
	b := bindingOf(sa)
	if ref := req.Spec.BoundObjectRef; ref != nil {
		if err := bind(ctx, c, sa, ref, &b); err != nil {
			return err
		}
	}
	if max := int64(t.cfg.MaxLife / time.Second); max > 0 && *req.Spec.ExpirationSeconds > max {
		req.Spec.ExpirationSeconds = &max
	}
	said := time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	life := said
	if !t.cfg.ExactLife && b.Pod != nil && *req.Spec.ExpirationSeconds == mountedTokenSeconds && len(intersection(req.Spec.Audiences, t.cfg.Audiences)) == len(req.Spec.Audiences) {
		b.WarnAfter, life = said, extendedLife
	}
	token, expires, err := t.Sign(b, req.Spec.Audiences, life)
	if err != nil {
		return err
	}
	req.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires.Add(said - life))}
	return nil
}

// completeTokenRequest defaults and validates what the client sent.
func completeTokenRequest(sa *corev1.ServiceAccount, req *authenticationv1.TokenRequest) error {
	meta := field.NewPath("metadata")
	gk := schema.GroupKind{Group: authenticationv1.GroupName, Kind: "TokenRequest"}
	switch {
	case req.Name != "" && req.Name != sa.Name:
		return apierrors.NewInvalid(gk, sa.Name, field.ErrorList{field.Invalid(meta.Child("name"), req.Name, "must match the service account name if specified")})
	case req.Namespace != "" && req.Namespace != sa.Namespace:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	case req.UID != "" && req.UID != sa.UID:
		return apierrors.NewConflict(schema.GroupResource{Group: gk.Group, Resource: gk.Kind}, sa.Name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, sa.UID))
	}
	req.Name, req.Namespace, req.UID = sa.Name, sa.Namespace, sa.UID
	if req.Spec.ExpirationSeconds == nil {
		s := int64(defaultTokenSeconds)
		req.Spec.ExpirationSeconds = &s
	}
	var errs field.ErrorList
	path := field.NewPath("spec").Child("expirationSeconds")
	if s := *req.Spec.ExpirationSeconds; s < minTokenSeconds {
		errs = append(errs, field.Invalid(path, s, "may not specify a duration less than 10 minutes"))
	} else if s > maxTokenSeconds {
		errs = append(errs, field.Invalid(path, s, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(gk, "", errs)
	}
	return nil
}

// bind adds the object ref names to b.
func bind(ctx context.Context, c client.Client, sa *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference, b *Binding) error {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var bound client.Object
	switch gvk {
	case schema.GroupVersionKind{Version: "v1", Kind: "Pod"}:
		pod, err := client.Get[*corev1.Pod](ctx, c, sa.Namespace, ref.Name)
		if err != nil {
			return err
		}
		if pod.Spec.ServiceAccountName != sa.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
		}
		b.Pod = &Ref{pod.Name, pod.UID}
		if pod.Spec.NodeName != "" {
			b.Node = &Ref{Name: pod.Spec.NodeName}
			node, err := client.GetCached[*corev1.Node](ctx, c, "", pod.Spec.NodeName)
			if err == nil {
				b.Node.UID = node.UID
			} else if !apierrors.IsNotFound(err) {
				return err
			}
		}
		bound = pod
	case schema.GroupVersionKind{Version: "v1", Kind: "Node"}:
		node, err := client.Get[*corev1.Node](ctx, c, "", ref.Name)
		if err != nil {
			return err
		}
		b.Node = &Ref{node.Name, node.UID}
		bound = node
	case schema.GroupVersionKind{Version: "v1", Kind: "Secret"}:
		secret, err := client.Get[*corev1.Secret](ctx, c, sa.Namespace, ref.Name)
		if err != nil {
			return err
		}
		b.Secret = &Ref{secret.Name, secret.UID}
		bound = secret
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk))
	}
	if ref.UID != "" && ref.UID != bound.GetUID() {
		return apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return nil
}
