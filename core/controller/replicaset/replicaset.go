package replicaset

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// atMost bounds how many pods one plan creates or deletes; the rest follows
// when the first have been seen.
const atMost = 500

var podsResource = client.Resource{Resource: "pods"}

// set is what ReplicaSets and ReplicationControllers have in common.
type set struct {
	object   client.Object
	gvk      schema.GroupVersionKind
	replicas int32
	minReady time.Duration
	selector labels.Selector
	template *corev1.PodTemplateSpec
	// status returns a copy of the object with the new counts.
	status func(counts counts) client.Object
}

type counts struct {
	replicas, labelled, ready, available, terminating int32
	failure                                           *failure
}

// failure is why pods could not be made or deleted.
type failure struct {
	reason, message string
	at              metav1.Time
}

// failureOf tells the failure of an action, or nil when it made or deleted no pod.
func failureOf(a controller.Action, err error, now time.Time) *failure {
	reason := map[controller.Op]string{controller.OpCreate: "FailedCreate", controller.OpDelete: "FailedDelete"}[a.Op]
	if reason == "" {
		return nil
	}
	message := err.Error()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		message = status.Status().Message
	}
	return &failure{reason, message, metav1.NewTime(now)}
}

// New returns the controller of ReplicaSets.
func New() controller.Controller {
	r := client.Resource{Group: "apps", Resource: "replicasets"}
	return controller.Controller{
		Name:    "replicaset",
		Workers: 5,
		Inputs: []controller.Input{
			{Resource: r, Keys: controller.Self},
			{Resource: podsResource, Keys: podKeys("ReplicaSet", r, func(o client.Object) labels.Selector {
				return selectorOf(o.(*appsv1.ReplicaSet).Spec.Selector)
			})},
		},
		Writes: []string{"replicasets.apps/status", "pods of replicasets"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			rs, ok := controller.Get[*appsv1.ReplicaSet](s, key.Namespace, key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return plan(s, ofReplicaSet(rs)), nil
		},
	}
}

// NewReplicationController returns the controller of ReplicationControllers.
func NewReplicationController() controller.Controller {
	r := client.Resource{Resource: "replicationcontrollers"}
	return controller.Controller{
		Name: "replication",
		Inputs: []controller.Input{
			{Resource: r, Keys: controller.Self},
			{Resource: podsResource, Keys: podKeys("ReplicationController", r, func(o client.Object) labels.Selector {
				return labels.SelectorFromSet(o.(*corev1.ReplicationController).Spec.Selector)
			})},
		},
		Writes: []string{"replicationcontrollers/status", "pods of replicationcontrollers"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			rc, ok := controller.Get[*corev1.ReplicationController](s, key.Namespace, key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			return plan(s, ofReplicationController(rc)), nil
		},
	}
}

func ofReplicaSet(rs *appsv1.ReplicaSet) set {
	return set{
		object:   rs,
		gvk:      appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		replicas: *rs.Spec.Replicas,
		minReady: time.Duration(rs.Spec.MinReadySeconds) * time.Second,
		selector: selectorOf(rs.Spec.Selector),
		template: &rs.Spec.Template,
		status: func(c counts) client.Object {
			next := rs.DeepCopy()
			st := &next.Status
			st.Replicas, st.FullyLabeledReplicas, st.ReadyReplicas, st.AvailableReplicas = c.replicas, c.labelled, c.ready, c.available
			st.ObservedGeneration = rs.Generation
			st.TerminatingReplicas = &c.terminating
			st.Conditions = slices.DeleteFunc(st.Conditions, func(have appsv1.ReplicaSetCondition) bool {
				return have.Type == appsv1.ReplicaSetReplicaFailure && c.failure == nil
			})
			if f := c.failure; f != nil && !slices.ContainsFunc(st.Conditions, func(have appsv1.ReplicaSetCondition) bool {
				return have.Type == appsv1.ReplicaSetReplicaFailure
			}) {
				st.Conditions = append(st.Conditions, appsv1.ReplicaSetCondition{
					Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: f.at, Reason: f.reason, Message: f.message,
				})
			}
			if equality.Semantic.DeepEqual(st, &rs.Status) {
				return nil
			}
			return next
		},
	}
}

func ofReplicationController(rc *corev1.ReplicationController) set {
	template := rc.Spec.Template
	if template == nil {
		template = &corev1.PodTemplateSpec{}
	}
	return set{
		object:   rc,
		gvk:      corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		replicas: *rc.Spec.Replicas,
		minReady: time.Duration(rc.Spec.MinReadySeconds) * time.Second,
		selector: labels.SelectorFromSet(rc.Spec.Selector),
		template: template,
		status: func(c counts) client.Object {
			next := rc.DeepCopy()
			st := &next.Status
			st.Replicas, st.FullyLabeledReplicas, st.ReadyReplicas, st.AvailableReplicas = c.replicas, c.labelled, c.ready, c.available
			st.ObservedGeneration = rc.Generation
			st.Conditions = slices.DeleteFunc(st.Conditions, func(have corev1.ReplicationControllerCondition) bool {
				return have.Type == corev1.ReplicationControllerReplicaFailure && c.failure == nil
			})
			if f := c.failure; f != nil && !slices.ContainsFunc(st.Conditions, func(have corev1.ReplicationControllerCondition) bool {
				return have.Type == corev1.ReplicationControllerReplicaFailure
			}) {
				st.Conditions = append(st.Conditions, corev1.ReplicationControllerCondition{
					Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: f.at, Reason: f.reason, Message: f.message,
				})
			}
			if equality.Semantic.DeepEqual(st, &rc.Status) {
				return nil
			}
			return next
		},
	}
}

func selectorOf(s *metav1.LabelSelector) labels.Selector {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing() // validation refuses such selectors
	}
	return sel
}

// podKeys finds the work a pod concerns: its controller, or, for an orphan,
// everything that could adopt it.
func podKeys(kind string, r client.Resource, selector func(client.Object) labels.Selector) func(controller.State, client.Object) []client.Key {
	owner := controller.OwnerOf(kind)
	return func(s controller.State, obj client.Object) []client.Key {
		if metav1.GetControllerOf(obj) != nil {
			return owner(s, obj)
		}
		var keys []client.Key
		for _, o := range s.List(r, obj.GetNamespace()) {
			if sel := selector(o); !sel.Empty() && sel.Matches(labels.Set(obj.GetLabels())) {
				keys = append(keys, client.KeyOf(o))
			}
		}
		return keys
	}
}

// plan compares the pods that are there with those wanted.
func plan(s controller.State, want set) controller.Plan {
	var p controller.Plan
	var active []*corev1.Pod
	var terminating int32
	for _, pod := range controller.List[*corev1.Pod](s, want.object.GetNamespace()) {
		matches := !want.selector.Empty() && want.selector.Matches(labels.Set(pod.Labels))
		switch ref := metav1.GetControllerOf(pod); {
		case ref != nil && ref.UID == want.object.GetUID() && matches:
			if controller.PodActive(pod) {
				active = append(active, pod)
			} else if pod.DeletionTimestamp != nil {
				terminating++
			}
		case ref != nil && ref.UID == want.object.GetUID() && want.object.GetDeletionTimestamp() == nil:
			p.Add(controller.PatchOwners(pod, without(pod, want.object)))
		case ref == nil && matches && controller.PodActive(pod) && want.object.GetDeletionTimestamp() == nil:
			p.Add(controller.PatchOwners(pod, append(slices.Clone(pod.OwnerReferences), *metav1.NewControllerRef(want.object, want.gvk))))
			active = append(active, pod)
		}
	}
	if want.object.GetDeletionTimestamp() == nil {
		manage(&p, s, want, active)
	}
	c := count(&p, s.Now(), want, active)
	c.terminating = terminating
	if next := want.status(c); next != nil {
		p.Add(controller.Status(next))
	}
	p.Failed = func(a controller.Action, err error) []controller.Action {
		if c.failure = failureOf(a, err, s.Now()); c.failure == nil {
			return nil
		}
		if next := want.status(c); next != nil {
			return []controller.Action{controller.Status(next)}
		}
		return nil
	}
	return p
}

func manage(p *controller.Plan, s controller.State, want set, active []*corev1.Pod) {
	missing := int(want.replicas) - len(active)
	ref := metav1.NewControllerRef(want.object, want.gvk)
	for range min(missing, atMost) {
		p.Add(controller.CreateFor(want.object, controller.PodFromTemplate(want.template, want.object, ref)))
	}
	if missing >= 0 {
		return
	}
	victims := leastWorthFirst(active, s.Now())
	for _, pod := range victims[:min(-missing, atMost)] {
		p.Add(controller.DeleteFor(want.object, pod))
	}
}

func count(p *controller.Plan, now time.Time, want set, active []*corev1.Pod) counts {
	c := counts{replicas: int32(len(active))}
	templateLabels := labels.Set(want.template.Labels).AsSelectorPreValidated()
	for _, pod := range active {
		if templateLabels.Matches(labels.Set(pod.Labels)) {
			c.labelled++
		}
		in := controller.PodAvailableIn(pod, want.minReady, now)
		if in >= 0 {
			c.ready++
		}
		if in == 0 {
			c.available++
		} else {
			p.Again(in)
		}
	}
	return c
}

func without(pod *corev1.Pod, owner client.Object) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(pod.OwnerReferences), func(r metav1.OwnerReference) bool { return r.UID == owner.GetUID() })
}

// leastWorthFirst orders pods as upstream's scale-down does.
func leastWorthFirst(pods []*corev1.Pod, now time.Time) []*corev1.Pod {
	onNode := map[string]int{}
	for _, p := range pods {
		onNode[p.Spec.NodeName]++
	}
	phase := map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}
	less := func(a, b bool) int { // true comes first
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	out := slices.Clone(pods)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		if c := less(a.Spec.NodeName == "", b.Spec.NodeName == ""); c != 0 {
			return c
		}
		if c := phase[a.Status.Phase] - phase[b.Status.Phase]; c != 0 {
			return c
		}
		if c := less(!controller.PodReady(a), !controller.PodReady(b)); c != 0 {
			return c
		}
		if c := deletionCost(a) - deletionCost(b); c != 0 {
			return c
		}
		if c := onNode[b.Spec.NodeName] - onNode[a.Spec.NodeName]; c != 0 {
			return c
		}
		if c := restarts(b) - restarts(a); c != 0 {
			return c
		}
		if c := b.CreationTimestamp.Compare(a.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// deletionCost is what controller.kubernetes.io/pod-deletion-cost says.
func deletionCost(p *corev1.Pod) int {
	n, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

func restarts(p *corev1.Pod) int {
	n := 0
	for _, c := range p.Status.ContainerStatuses {
		n = max(n, int(c.RestartCount))
	}
	return n
}
