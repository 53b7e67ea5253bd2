package auth

import (
	"context"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"binnacle.io/core/client"
)

// concerned reports whether the node has to do with the object by its name.
// What does not exist concerns no node.
func (q nodeQuestion) concerned() (bool, error) {
	switch q.a.Resource {
	case "pods":
		return stored(q, q.a.Namespace, func(p *corev1.Pod) (bool, error) { return p.Spec.NodeName == q.node, nil })
	case "volumeattachments":
		return stored(q, "", func(v *storagev1.VolumeAttachment) (bool, error) { return v.Spec.NodeName == q.node, nil })
	case "resourceslices":
		return stored(q, "", func(s *resourcev1.ResourceSlice) (bool, error) {
			return s.Spec.NodeName != nil && *s.Spec.NodeName == q.node, nil
		})
	case "podcertificaterequests":
		return stored(q, q.a.Namespace, func(r *certificatesv1.PodCertificateRequest) (bool, error) {
			return string(r.Spec.NodeName) == q.node, nil
		})
	case "persistentvolumes":
		return stored(q, "", q.mounted)
	}
	pods, err := q.pods(q.a.Namespace)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return refersTo(p, q.a.Resource, q.a.Name) }) {
		return true, nil
	}
	if q.a.Resource == "secrets" {
		return q.volumeSecret()
	}
	return false, nil
}

// stored reads the object the question is about.
func stored[T client.Object](q nodeQuestion, namespace string, judge func(T) (bool, error)) (bool, error) {
	o, err := client.GetCached[T](q.ctx, q.c, namespace, q.a.Name)
	if apierrors.IsNotFound(err) {
		// The cache may be behind by what was made a moment ago.
		o, err = client.Get[T](q.ctx, q.c, namespace, q.a.Name)
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return judge(o)
}

// pods are those on the node that may refer to other objects: mirror pods,
// which the node makes itself, may not.
func (q nodeQuestion) pods(namespace string) ([]*corev1.Pod, error) {
	pods, err := podsOn(q.ctx, q.c, q.node, namespace)
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool {
		_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
		return mirror
	}), err
}

func podsOn(ctx context.Context, c client.Client, node, namespace string) ([]*corev1.Pod, error) {
	pods, _, err := client.ListOf[*corev1.Pod](ctx, c, client.ReadOptions{
		Namespace: namespace, Fields: fields.OneTermEqualSelector("spec.nodeName", node), FromCache: true})
	return pods, err
}

// mounted reports whether a pod on the node uses the claim pv is bound to.
func (q nodeQuestion) mounted(pv *corev1.PersistentVolume) (bool, error) {
	claim := pv.Spec.ClaimRef
	if claim == nil {
		return false, nil
	}
	pods, err := q.pods(claim.Namespace)
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return refersTo(p, "persistentvolumeclaims", claim.Name) }), err
}

// volumeSecret reports whether a volume mounted on the node needs the secret.
func (q nodeQuestion) volumeSecret() (bool, error) {
	volumes, _, err := client.ListOf[*corev1.PersistentVolume](q.ctx, q.c, client.ReadOptions{FromCache: true})
	if err != nil {
		return false, err
	}
	for _, pv := range volumes {
		if !slices.Contains(volumeSecrets(pv), client.Key{Namespace: q.a.Namespace, Name: q.a.Name}) {
			continue
		}
		if ok, err := q.mounted(pv); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}
