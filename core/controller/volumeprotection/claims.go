package volumeprotection

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// NewClaims returns the controller that protects claims and says since when
// they are unused.
func NewClaims() controller.Controller {
	return controller.Controller{
		Name:    "pvcprotection",
		Account: "pvc-protection-controller",
		Inputs: []controller.Input{
			{Resource: claimsResource, Keys: controller.Self},
			{Resource: podsResource, Keys: claimsOf},
		},
		Writes: []string{"finalizers of persistentvolumeclaims", "persistentvolumeclaims/status Unused"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			claim, ok := controller.Get[*corev1.PersistentVolumeClaim](s, key.Namespace, key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return planClaim(s, claim), nil
		},
	}
}

// claimsOf names the claims that a pod's volumes refer to.
func claimsOf(_ controller.State, obj client.Object) (keys []client.Key) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			keys = append(keys, client.Key{Namespace: pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			keys = append(keys, client.Key{Namespace: pod.Namespace, Name: ephemeral.VolumeClaimName(pod, v)})
		}
	}
	return keys
}

// planClaim makes one write at most: the next is decided on what it leaves.
//
// Upstream asks the API server for the pods before it lets a claim go. Here what
// is read from the cache is what nodes are told from: a pod missing in it has
// been seen by no node yet, and will find its claim being deleted or gone.
func planClaim(s controller.State, claim *corev1.PersistentVolumeClaim) controller.Plan {
	p := protect(claim, "kubernetes.io/pvc-protection", func() bool { return anyPod(s, claim, holds) })
	if len(p.Actions) > 0 || claim.DeletionTimestamp != nil {
		return p
	}
	if next := withUnused(claim, !anyPod(s, claim, wants), s.Now()); next != nil {
		p.Add(controller.Status(next))
	}
	return p
}

func anyPod(s controller.State, claim *corev1.PersistentVolumeClaim, uses func(*corev1.Pod, *corev1.PersistentVolumeClaim) bool) bool {
	return slices.ContainsFunc(controller.List[*corev1.Pod](s, claim.Namespace), func(pod *corev1.Pod) bool { return uses(pod, claim) })
}

// holds tells whether a claim being deleted has to wait for the pod. A pod that
// is shut down and waits for finalizers no longer holds its own ephemeral
// volume: those finalizers may wait for the claim.
func holds(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	grace := pod.DeletionGracePeriodSeconds
	shutDown := pod.DeletionTimestamp != nil && grace != nil && *grace == 0
	return refers(pod, claim) || !shutDown && generates(pod, claim)
}

// wants tells whether a pod that is not finished uses the claim, or will once it
// has a node.
func wants(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	return !finished(pod) && (refers(pod, claim) || generates(pod, claim))
}

func finished(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return pod.DeletionTimestamp != nil && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Terminated == nil && c.State.Waiting == nil
	})
}

// refers tells whether a volume of the pod names the claim.
func refers(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name
	})
}

// generates tells whether the claim was made for an ephemeral volume of the pod.
func generates(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Ephemeral != nil && ephemeral.VolumeClaimName(pod, &v) == claim.Name && ephemeral.VolumeIsForPod(pod, claim) == nil
	})
}

// withUnused returns a copy of the claim whose condition Unused, in upstream's
// words, tells what is so since now; or nil when it already does.
func withUnused(claim *corev1.PersistentVolumeClaim, unused bool, now time.Time) *corev1.PersistentVolumeClaim {
	c := corev1.PersistentVolumeClaimCondition{
		Type: corev1.PersistentVolumeClaimUnused, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now),
		Reason: "PodUsingPVC", Message: "A pod is currently referencing this PVC",
	}
	if unused {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "NoPodsUsingPVC", "No pods are currently referencing this PVC"
	}
	i := slices.IndexFunc(claim.Status.Conditions, func(have corev1.PersistentVolumeClaimCondition) bool { return have.Type == c.Type })
	if i >= 0 && claim.Status.Conditions[i].Status == c.Status {
		return nil
	}
	next := claim.DeepCopy()
	if i < 0 {
		next.Status.Conditions = append(next.Status.Conditions, c)
	} else {
		next.Status.Conditions[i] = c
	}
	return next
}
