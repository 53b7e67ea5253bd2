package disruption

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// DeletionTimeout is how long a pod that was let go counts as gone before its
// deletion is seen; upstream's value.
const DeletionTimeout = 2 * time.Minute

// New returns the controller.
func New() controller.Controller {
	owner := func(group, name string) controller.Input {
		return controller.Input{Resource: client.Resource{Group: group, Resource: name}, Keys: budgetsIn}
	}
	return controller.Controller{
		Name: "disruption",
		Inputs: []controller.Input{
			{Resource: client.Resource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}, Keys: controller.Self},
			{Resource: client.Resource{Resource: "pods"}, Keys: covering},
			owner("apps", "deployments"), owner("apps", "replicasets"), owner("apps", "statefulsets"), owner("", "replicationcontrollers"),
		},
		Writes: []string{"poddisruptionbudgets.policy/status"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			b, ok := controller.Get[*policyv1.PodDisruptionBudget](s, key.Namespace, key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return reconcile(s, b), nil
		},
	}
}

// covering names the budgets whose selector matches a pod.
func covering(s controller.State, pod client.Object) (keys []client.Key) {
	for _, b := range controller.List[*policyv1.PodDisruptionBudget](s, pod.GetNamespace()) {
		if sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && sel.Matches(labels.Set(pod.GetLabels())) {
			keys = append(keys, client.KeyOf(b))
		}
	}
	return keys
}

// budgetsIn names all budgets of an owner's namespace: which of them cover its
// pods is not to be seen on the owner.
func budgetsIn(s controller.State, owner client.Object) (keys []client.Key) {
	for _, b := range controller.List[*policyv1.PodDisruptionBudget](s, owner.GetNamespace()) {
		keys = append(keys, client.KeyOf(b))
	}
	return keys
}

func reconcile(s controller.State, b *policyv1.PodDisruptionBudget) (p controller.Plan) {
	next := b.DeepCopy()
	next.Status.ObservedGeneration = b.Generation
	pods, err := podsOf(s, b)
	var need demand
	if err == nil {
		need, err = demandOf(s, b, pods)
	}
	if err != nil {
		next.Status.DisruptionsAllowed = 0
		condition(next, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error(), s.Now())
	} else {
		p.Again(count(next, pods, need, s.Now()))
	}
	if equality.Semantic.DeepEqual(b.Status, next.Status) {
		return p
	}
	if err != nil {
		p.Add(controller.Event(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err))
	}
	p.Add(controller.Status(next))
	return p
}

func podsOf(s controller.State, b *policyv1.PodDisruptionBudget) (pods []*corev1.Pod, err error) {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("cannot use the selector: %w", err)
	}
	for _, pod := range controller.List[*corev1.Pod](s, b.Namespace) {
		if sel.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// demand is how many pods are expected and how many of them must be healthy.
type demand struct{ expected, healthy int32 }

func demandOf(s controller.State, b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (demand, error) {
	most, least := b.Spec.MaxUnavailable, b.Spec.MinAvailable
	switch {
	case most != nil:
		expected, err := wanted(s, pods)
		if err != nil {
			return demand{}, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(most, int(expected), true)
		return demand{expected, max(expected-int32(n), 0)}, err
	case least != nil && least.Type == intstr.String:
		expected, err := wanted(s, pods)
		if err != nil {
			return demand{}, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(least, int(expected), true)
		return demand{expected, int32(n)}, err
	case least != nil:
		return demand{int32(len(pods)), least.IntVal}, nil
	}
	return demand{int32(len(pods)), 0}, nil
}

// wanted adds up the replicas that the pods' owners want. Pods without an
// owner add nothing.
func wanted(s controller.State, pods []*corev1.Pod) (int32, error) {
	replicas := map[types.UID]int32{}
	for _, pod := range pods {
		ref := metav1.GetControllerOf(pod)
		if ref == nil {
			continue
		}
		if _, known := replicas[ref.UID]; known {
			continue
		}
		uid, n, err := replicasOf(s, pod.Namespace, ref)
		if err != nil {
			return 0, err
		}
		replicas[uid] = n
	}
	var sum int32
	for _, n := range replicas {
		sum += n
	}
	return sum, nil
}

// replicasOf returns how many replicas the workload behind a pod's owner wants,
// and that workload's UID: a ReplicaSet of a Deployment stands for the Deployment.
func replicasOf(s controller.State, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	switch ref.Kind {
	case "ReplicaSet":
		rs, ok := controller.Get[*appsv1.ReplicaSet](s, namespace, ref.Name)
		if !ok || rs.UID != ref.UID {
			break
		}
		up := metav1.GetControllerOf(rs)
		if up == nil || up.Kind != "Deployment" {
			return rs.UID, ptr.Deref(rs.Spec.Replicas, 1), nil
		}
		if d, ok := controller.Get[*appsv1.Deployment](s, namespace, up.Name); ok && d.UID == up.UID {
			return d.UID, ptr.Deref(d.Spec.Replicas, 1), nil
		}
	case "StatefulSet":
		if o, ok := controller.Get[*appsv1.StatefulSet](s, namespace, ref.Name); ok && o.UID == ref.UID {
			return o.UID, ptr.Deref(o.Spec.Replicas, 1), nil
		}
	case "ReplicationController":
		if o, ok := controller.Get[*corev1.ReplicationController](s, namespace, ref.Name); ok && o.UID == ref.UID {
			return o.UID, ptr.Deref(o.Spec.Replicas, 1), nil
		}
	default:
		return "", 0, fmt.Errorf("%s.%s does not implement the scale subresource", ref.Kind, ref.APIVersion)
	}
	return "", 0, fmt.Errorf("found no controllers for pod's owner %s %q", ref.Kind, ref.Name)
}

// count fills in b's status. It returns when a pod let go will count again.
func count(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, need demand, now time.Time) (again time.Duration) {
	st := &b.Status
	gone := map[string]metav1.Time{}
	st.CurrentHealthy = 0
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		if at, ok := st.DisruptedPods[pod.Name]; ok {
			if left := at.Add(DeletionTimeout).Sub(now); left > 0 {
				gone[pod.Name] = at
				if again == 0 || left < again {
					again = left
				}
				continue
			}
		}
		if controller.PodReady(pod) {
			st.CurrentHealthy++
		}
	}
	st.DisruptedPods = gone
	if len(gone) == 0 {
		st.DisruptedPods = nil
	}
	st.ExpectedPods, st.DesiredHealthy = need.expected, need.healthy
	st.DisruptionsAllowed = 0
	if need.expected > 0 {
		st.DisruptionsAllowed = max(st.CurrentHealthy-need.healthy, 0)
	}
	if st.DisruptionsAllowed > 0 {
		condition(b, metav1.ConditionTrue, policyv1.SufficientPodsReason, "", now)
	} else {
		condition(b, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "", now)
	}
	return again
}

func condition(b *policyv1.PodDisruptionBudget, is metav1.ConditionStatus, reason, message string, now time.Time) {
	apimeta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: is, Reason: reason, Message: message,
		ObservedGeneration: b.Status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now),
	})
}
