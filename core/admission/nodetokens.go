package admission

import (
	"context"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// token lets nodes ask for tokens of the accounts of pods on them, bound to
// these pods and for audiences these pods name.
func (p *NodeRestriction) token(ctx context.Context, a *Attributes, node string, deny denial) error {
	// A TokenRequest has metadata, so it travels as an object.
	req, ok := any(a.Object).(*authenticationv1.TokenRequest)
	if !ok {
		return deny("unexpected type %T", a.Object)
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return deny("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return deny("node requested token with a pod binding without a uid")
	}
	pod, err := client.GetCached[*corev1.Pod](ctx, p.c, a.Key.Namespace, ref.Name)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return deny("%w", err)
	}
	if ref.UID != pod.UID {
		return deny("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != node {
		return deny("node requested token bound to a pod scheduled on a different node")
	}
	return p.audience(ctx, a, req, pod, deny)
}

// audience refuses a token for an audience that no volume of the pod asks for,
// unless the node is allowed it.
func (p *NodeRestriction) audience(ctx context.Context, a *Attributes, req *authenticationv1.TokenRequest, pod *corev1.Pod, deny denial) error {
	wanted := ""
	switch len(req.Spec.Audiences) {
	case 0:
	case 1:
		wanted = req.Spec.Audiences[0]
	default:
		return deny("node may only request 0 or 1 audiences")
	}
	named, err := p.names(ctx, pod, wanted)
	if err != nil {
		return deny("error validating audience %q: %w", wanted, err)
	}
	if named {
		return nil
	}
	if p.authz != nil {
		d, _, err := p.authz.Authorize(ctx, auth.Attributes{
			User: a.User, Verb: "request-serviceaccounts-token-audience", Version: "v1", Resource: wanted, Namespace: a.Key.Namespace, Name: a.Key.Name,
		})
		if d == auth.Allow {
			return nil
		}
		if err != nil {
			return deny("audience %q not found in pod spec volume, error authorizing %s to request tokens for this audience: %w", wanted, a.User.Name, err)
		}
	}
	return deny("audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", wanted, a.User.Name)
}

// names reports whether a volume of the pod needs tokens for the audience:
// itself, or its CSI driver.
func (p *NodeRestriction) names(ctx context.Context, pod *corev1.Pod, audience string) (bool, error) {
	var failed several
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience
		}) {
			return true, nil
		}
		driver, err := p.driver(ctx, pod, v)
		if err != nil {
			failed = append(failed, err)
		}
		if driver == "" {
			continue
		}
		d, err := client.GetCached[*storagev1.CSIDriver](ctx, p.c, "", driver)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if slices.ContainsFunc(d.Spec.TokenRequests, func(r storagev1.TokenRequest) bool { return r.Audience == audience }) {
			return true, nil
		}
	}
	if len(failed) > 0 {
		return false, failed
	}
	return false, nil
}

// driver is the CSI driver of a volume, or "".
func (p *NodeRestriction) driver(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	claim := ""
	switch {
	case v.CSI != nil:
		return v.CSI.Driver, nil
	case v.Ephemeral != nil:
		claim = pod.Name + "-" + v.Name
	case v.PersistentVolumeClaim != nil:
		claim = v.PersistentVolumeClaim.ClaimName
	default:
		return "", nil
	}
	pvc, err := client.GetCached[*corev1.PersistentVolumeClaim](ctx, p.c, pod.Namespace, claim)
	if err != nil {
		return "", err
	}
	pv, err := client.GetCached[*corev1.PersistentVolume](ctx, p.c, "", pvc.Spec.VolumeName)
	if err != nil || pv.Spec.CSI == nil {
		return "", err
	}
	return pv.Spec.CSI.Driver, nil
}

// podCertificate lets nodes ask for certificates for the pods on them, and
// checks that the request names the pod, its account and the node as they are.
func (p *NodeRestriction) podCertificate(ctx context.Context, a *Attributes, node string, deny denial) error {
	if a.Op != Create {
		return deny("unexpected operation %v", a.Op)
	}
	if a.Subresource != "" {
		return deny("unexpected subresource %v", a.Subresource)
	}
	req, ok := a.Object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return deny("unexpected type %T", a.Object)
	}
	s, pod := &req.Spec, a.Key.Namespace+"/"+req.Spec.PodName
	if string(s.NodeName) != node {
		return deny("PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", s.NodeName, node)
	}
	// What may come of a cache that is behind is no refusal: it may be tried
	// again.
	n, err := client.GetCached[*corev1.Node](ctx, p.c, "", node)
	if err != nil {
		return fmt.Errorf("while retrieving node %q named in the PodCertificateRequest: %w", node, err)
	}
	if n.UID != s.NodeUID {
		return deny("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", pod, s.NodeUID, n.UID)
	}
	running, err := client.GetCached[*corev1.Pod](ctx, p.c, a.Key.Namespace, s.PodName)
	if err != nil {
		return fmt.Errorf("while retrieving pod %q named in the PodCertificateRequest: %w", pod, err)
	}
	switch {
	case s.PodUID != running.UID:
		return deny("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", pod, s.PodUID, running.UID)
	case running.Spec.NodeName != node:
		return deny("pod %q is not running on node %q named in the PodCertificateRequest", pod, node)
	case mirror(running):
		return deny("pod %q is a mirror pod", pod)
	case s.ServiceAccountName != running.Spec.ServiceAccountName:
		return deny("PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", pod, s.ServiceAccountName, running.Spec.ServiceAccountName)
	}
	sa, err := client.GetCached[*corev1.ServiceAccount](ctx, p.c, a.Key.Namespace, s.ServiceAccountName)
	if err != nil {
		return fmt.Errorf("while retrieving service account %q named in the PodCertificateRequest: %w", a.Key.Namespace+"/"+s.ServiceAccountName, err)
	}
	if sa.UID != s.ServiceAccountUID {
		return deny("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", pod, s.ServiceAccountUID, sa.UID)
	}
	return nil
}
