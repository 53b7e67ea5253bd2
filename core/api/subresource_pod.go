package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/admission"
	"binnacle.io/core/client"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// statusObject lets a Status travel where objects do.
type statusObject struct {
	metav1.ObjectMeta
	*metav1.Status
}

// GetObjectKind implements runtime.Object.
func (o *statusObject) GetObjectKind() schema.ObjectKind { return o.Status.GetObjectKind() }

// DeepCopyObject implements runtime.Object.
func (o *statusObject) DeepCopyObject() runtime.Object {
	return &statusObject{ObjectMeta: *o.ObjectMeta.DeepCopy(), Status: o.Status.DeepCopy()}
}

func success() *statusObject {
	return &statusObject{Status: &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: 201,
	}}
}

// admitBody runs admission over the body of a subresource.
func (s *Server) admitBody(ctx context.Context, q *request, body, old client.Object) (done func(committed bool), err error) {
	attrs := s.admissionAttributes(q, admission.Create, body, old)
	attrs.Kind = body.GetObjectKind().GroupVersionKind()
	done = func(committed bool) {
		attrs.Done(committed)
		q.warn(attrs.Warnings()...)
	}
	if err = s.admission.Mutate(ctx, attrs); err == nil {
		err = s.admission.Validate(ctx, attrs)
	}
	if err != nil {
		done(false)
		return nil, err
	}
	return done, nil
}

// bind assigns a pod to a node.
func (s *Server) bind(ctx context.Context, q *request, body client.Object) (client.Object, error) {
	b, ok := body.(*corev1.Binding)
	if !ok {
		return nil, badRequest("not a Binding object: %T", body)
	}
	if b.Name == "" {
		b.Name = q.key.Name
	}
	if b.Name != q.key.Name {
		return nil, badRequest("name in URL does not match name in Binding object")
	}
	if errs := validateBinding(b); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, b.Name, errs)
	}
	done, err := s.admitBody(ctx, q, b, nil)
	if err != nil {
		return nil, err
	}
	_, err = s.updateDirectly(ctx, q, func(cur client.Object) (client.Object, error) { return bound(q, cur.(*corev1.Pod), b) })
	done(err == nil)
	if err != nil {
		return nil, err
	}

	return success(), nil
}

func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(at.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	return errs
}

// bound is pod on b's node.
func bound(q *request, pod *corev1.Pod, b *corev1.Binding) (*corev1.Pod, error) {
	switch {
	case b.UID != "" && b.UID != pod.UID:
		return nil, uidConflict(q, b.UID, pod.UID)
	case b.ResourceVersion != "" && b.ResourceVersion != pod.ResourceVersion:
		return nil, conflict(q.gr(), pod.Name, "Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", b.ResourceVersion, pod.ResourceVersion)
	case pod.DeletionTimestamp != nil:
		return nil, conflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, "pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return nil, conflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, "pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return nil, conflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, "pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	next := pod.DeepCopy()
	next.Spec.NodeName = b.Target.Name
	if len(b.Annotations) > 0 {
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		maps.Copy(next.Annotations, b.Annotations)
		keepTrace(next, pod)
	}
	if len(b.Labels) > 0 {
		if next.Labels == nil {
			next.Labels = map[string]string{}
		}
		maps.Copy(next.Labels, b.Labels)
	}
	setPodCondition(&next.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation})
	return next, nil
}

func setPodCondition(st *corev1.PodStatus, c corev1.PodCondition) {
	now := metav1.Now()
	c.LastTransitionTime = now
	for i := range st.Conditions {
		if st.Conditions[i].Type == c.Type {
			if st.Conditions[i].Status == c.Status {
				c.LastTransitionTime = st.Conditions[i].LastTransitionTime
			}
			st.Conditions[i] = c
			return
		}
	}
	st.Conditions = append(st.Conditions, c)
}

// updateDirectly stores what the server itself makes of an object, with the
// requester as its field manager but without the kind's update rules.
func (s *Server) updateDirectly(ctx context.Context, q *request, f func(cur client.Object) (client.Object, error)) (client.Object, error) {
	change := func(e *store.Entry) (client.Object, error) {
		next, err := f(e.Object)
		if err != nil || next == e.Object {
			return next, err
		}
		next = s.own(q, e.Object, next, q.manager)
		if desiredChanged(next, e.Object) {
			setTrace(next, telemetry.Traceparent(ctx))
		}
		return next, nil
	}
	if q.dryRun {
		e, err := s.store.Get(ctx, q.gr(), q.key, store.Latest())
		if err != nil {
			return nil, err
		}
		return change(e)
	}
	e, err := s.store.Update(ctx, q.gr(), q.key, store.Preconditions{}, change)
	if err != nil {
		return nil, err
	}
	return e.Object, nil
}

// bindLegacy answers a Binding posted to /bindings.
func (s *Server) bindLegacy(ctx context.Context, q *request, body client.Object) (client.Object, error) {
	pods, ok := s.kinds.ByGroupResource(schema.GroupResource{Resource: "pods"})
	if !ok {
		return nil, pathNotFound()
	}
	sub := *q
	sub.kind, sub.as, sub.sub = pods, versionOf(pods, nil), findSub(pods, "binding")
	sub.key = client.Key{Namespace: q.key.Namespace, Name: body.GetName()}
	if body.GetName() == "" {
		return nil, badRequest("Name parameter required.")
	}
	return s.bind(ctx, &sub, body)
}

// evict deletes a pod unless a disruption budget forbids it.
func (s *Server) evict(ctx context.Context, q *request, body client.Object) (client.Object, error) {
	ev, ok := body.(*policyv1.Eviction)
	if !ok {
		return nil, badRequest("not an Eviction object: %T", body)
	}
	if ev.Name == "" {
		ev.Name = q.key.Name
	}
	if ev.Name != q.key.Name {
		return nil, badRequest("name in URL does not match name in Eviction object")
	}
	opts := ev.DeleteOptions
	if opts == nil {
		opts = &metav1.DeleteOptions{}
	}
	if err := validateDeleteOptions(opts); err != nil {
		return nil, err
	}
	q.dryRun = q.dryRun || len(opts.DryRun) > 0
	cur, err := s.latest(ctx, q)
	if err != nil {
		return nil, err
	}
	done, err := s.admitBody(ctx, q, ev, nil)
	if err != nil {
		return nil, err
	}
	committed := false
	defer func() { done(committed) }()
	pod := cur.(*corev1.Pod)
	if err := s.checkEvictable(ctx, q, pod); err != nil {
		return nil, err
	}
	if opts, err = s.tellDisruption(ctx, q, opts); err != nil {
		return nil, err
	}
	del := *q
	del.verb, del.sub = "delete", nil
	if _, err := s.delete(ctx, &del, opts); err != nil {
		return nil, err
	}
	committed = true
	return success(), nil
}

// tellDisruption writes on a pod that is evicted why it goes (KEP-3329). It
// returns the options to delete it with, which are about the pod as it is then.
func (s *Server) tellDisruption(ctx context.Context, q *request, opts *metav1.DeleteOptions) (*metav1.DeleteOptions, error) {
	if q.dryRun {
		return opts, nil
	}
	e, err := s.store.Update(ctx, q.gr(), q.key, store.Preconditions{}, func(e *store.Entry) (client.Object, error) {
		if err := checkDeletePreconditions(q, opts, e.Object); err != nil {
			return nil, err
		}
		if c := disruptionOf(e.Object.(*corev1.Pod)); c != nil && c.Status == corev1.ConditionTrue {
			return e.Object, nil
		}
		next := e.Object.(*corev1.Pod).DeepCopy()
		c := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting"}
		if have := disruptionOf(next); have != nil {
			*have = c
		} else {
			next.Status.Conditions = append(next.Status.Conditions, c)
		}
		return next, nil
	})
	if err != nil || opts.Preconditions == nil || opts.Preconditions.ResourceVersion == nil {
		return opts, err
	}
	revision := e.Object.GetResourceVersion()
	opts = opts.DeepCopy()
	opts.Preconditions.ResourceVersion = &revision
	return opts, nil
}

func disruptionOf(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.DisruptionTarget {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// checkEvictable takes one disruption from the budgets that cover the pod.
func (s *Server) checkEvictable(ctx context.Context, q *request, pod *corev1.Pod) error {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed,
		pod.Status.Phase == corev1.PodPending, pod.DeletionTimestamp != nil:
		return nil
	}
	budgets, err := s.budgetsOf(ctx, pod)
	if err != nil || len(budgets) == 0 {
		return err
	}
	if len(budgets) > 1 {
		return statusError(http.StatusInternalServerError, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
	}
	b := budgets[0]
	if !podReady(pod) && b.Spec.UnhealthyPodEvictionPolicy != nil && *b.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow {
		return nil
	}
	if !podReady(pod) && b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0 {
		return nil
	}
	if q.dryRun {
		_, err := disrupted(b, pod.Name)
		return err
	}
	key := client.KeyOf(b)
	_, err = s.store.Update(ctx, pdbResource(), key, store.Preconditions{}, func(e *store.Entry) (client.Object, error) {
		return disrupted(e.Object.(*policyv1.PodDisruptionBudget), pod.Name)
	})
	return err
}

func pdbResource() client.Resource {
	return client.Resource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}
}

func (s *Server) budgetsOf(ctx context.Context, pod *corev1.Pod) ([]*policyv1.PodDisruptionBudget, error) {
	snap, err := s.store.Snapshot(ctx, pdbResource(), store.Latest())
	if err != nil {
		return nil, err
	}
	var out []*policyv1.PodDisruptionBudget
	for e := range snap.All(pod.Namespace) {
		b := e.Object.(*policyv1.PodDisruptionBudget)
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			continue
		}
		if sel.Matches(labels.Set(pod.Labels)) {
			out = append(out, b)
		}
	}
	return out, nil
}

// disrupted is b with one disruption less allowed, on account of the pod.
func disrupted(b *policyv1.PodDisruptionBudget, pod string) (*policyv1.PodDisruptionBudget, error) {
	tooMany := func(detail string, retry int) error {
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retry)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: detail})
		return err
	}
	if b.Status.ObservedGeneration < b.Generation {
		return nil, tooMany(fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name), 10)
	}
	if b.Status.DisruptionsAllowed < 0 {
		return nil, apierrors.NewForbidden(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudget"}, b.Name, fmt.Errorf("pdb disruptions allowed is negative"))
	}
	if b.Status.DisruptionsAllowed == 0 {
		return nil, tooMany(fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy), 0)
	}
	next := b.DeepCopy()
	next.Status.DisruptionsAllowed--
	if next.Status.DisruptedPods == nil {
		next.Status.DisruptedPods = map[string]metav1.Time{}
	}
	next.Status.DisruptedPods[pod] = metav1.NewTime(time.Now().Truncate(time.Second))
	return next, nil
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func validateScale(view client.Object) error {
	sc, ok := view.(*autoscalingv1.Scale)
	if !ok {
		return badRequest("cannot use a %T as a Scale", view)
	}
	if sc.Spec.Replicas < 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: autoscalingv1.GroupName, Kind: "Scale"}, sc.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), sc.Spec.Replicas, "must be greater than or equal to 0"),
		})
	}
	return nil
}
