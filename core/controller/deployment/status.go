package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/controller"
)

// Reasons of the Progressing condition, upstream's.
const (
	reasonUpdated   = "ReplicaSetUpdated"
	reasonCreated   = "NewReplicaSetCreated"
	reasonFound     = "FoundNewReplicaSet"
	reasonAvailable = "NewReplicaSetAvailable"
	reasonDeadline  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
	reasonResumed   = "DeploymentResumed"
)

// complete reports whether every pod is new and available.
func (r *rollout) complete() bool {
	return r.new != nil && r.new.Status.Replicas == r.want() && r.new.Status.AvailableReplicas >= r.want() &&
		r.new.Status.AvailableReplicas == available(r.sets) && r.observed(r.sets) == r.want()
}

// observed counts the pods that are there, by the ReplicaSets' status.
func (r *rollout) observed(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.Replicas
	}
	return n
}

// status plans the Deployment's status from what was observed.
func (r *rollout) status() {
	next := r.d.DeepCopy()
	st := &next.Status
	st.ObservedGeneration = r.d.Generation
	st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.UpdatedReplicas = 0, 0, 0, 0
	var terminating int32
	for _, rs := range r.sets {
		st.Replicas += rs.Status.Replicas
		st.ReadyReplicas += rs.Status.ReadyReplicas
		st.AvailableReplicas += rs.Status.AvailableReplicas
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	st.TerminatingReplicas = &terminating
	if r.new != nil {
		st.UpdatedReplicas = r.new.Status.Replicas
	}
	st.UnavailableReplicas = max(0, replicas(r.sets)-st.AvailableReplicas)
	st.CollisionCount = r.collisions
	r.available(st)
	r.progressing(st)
	r.failing(st)
	if r.revision != "" && next.Annotations[revisionKey] != r.revision {
		// The status subresource of Deployments takes annotations along,
		// for this very purpose.
		next.Annotations = withLabel(next.Annotations, revisionKey, r.revision)
	}
	if !equality.Semantic.DeepEqual(next, r.d) {
		r.plan.Add(controller.Status(next))
	}
}

func (r *rollout) available(st *appsv1.DeploymentStatus) {
	if st.AvailableReplicas >= r.want()-r.maxUnavailable() {
		r.set(st, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
		return
	}
	r.set(st, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
}

// failing takes over why a ReplicaSet cannot make or delete its pods; the new
// one's reason goes first.
func (r *rollout) failing(st *appsv1.DeploymentStatus) {
	for _, rs := range append([]*appsv1.ReplicaSet{r.new}, r.old...) {
		if rs == nil {
			continue
		}
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				r.set(st, appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, c.Reason, c.Message)
				return
			}
		}
	}
	st.Conditions = slices.DeleteFunc(st.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentReplicaFailure })
}

// progressing says how far the rollout is. Without a deadline there is no such
// condition.
func (r *rollout) progressing(st *appsv1.DeploymentStatus) {
	limit := r.d.Spec.ProgressDeadlineSeconds
	if limit == nil || *limit == math.MaxInt32 {
		st.Conditions = slices.DeleteFunc(st.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentProgressing })
		return
	}
	was := condition(st, appsv1.DeploymentProgressing)
	name := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.new != nil {
		name = fmt.Sprintf("ReplicaSet %q", r.new.Name)
	}
	switch {
	case r.d.Spec.Paused:
		r.set(st, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case was != nil && was.Reason == reasonPaused:
		r.set(st, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	case r.created != "":
		r.set(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", r.created))
	case r.complete() && !r.scaled:
		r.set(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, name+" has successfully progressed.")
	case was == nil && r.new != nil:
		r.set(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound, fmt.Sprintf("Found new replica set %q", r.new.Name))
	case r.progressed(st):
		r.set(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonUpdated, name+" is progressing.")
		if c := condition(st, appsv1.DeploymentProgressing); c != nil {
			c.LastUpdateTime = metav1.NewTime(r.s.Now())
		}
		r.plan.Again(time.Duration(*limit) * time.Second)
	case was != nil && was.Reason != reasonAvailable && was.Reason != reasonDeadline:
		left := was.LastUpdateTime.Add(time.Duration(*limit) * time.Second).Sub(r.s.Now())
		if left <= 0 {
			r.set(st, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonDeadline, name+" has timed out progressing.")
		} else {
			r.plan.Again(left)
		}
	}
}

// progressed reports whether the rollout moved since the stored status: more
// pods are new, fewer are old, or more are ready.
func (r *rollout) progressed(st *appsv1.DeploymentStatus) bool {
	was := r.d.Status
	return st.UpdatedReplicas > was.UpdatedReplicas ||
		st.Replicas-st.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		st.ReadyReplicas > was.ReadyReplicas || st.AvailableReplicas > was.AvailableReplicas
}

func condition(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == t {
			return &st.Conditions[i]
		}
	}
	return nil
}

// set changes a condition; its times move only with its status and reason.
func (r *rollout) set(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(r.s.Now().Truncate(time.Second))
	c := condition(st, t)
	if c == nil {
		st.Conditions = append(st.Conditions, appsv1.DeploymentCondition{Type: t, LastTransitionTime: now, LastUpdateTime: now})
		c = &st.Conditions[len(st.Conditions)-1]
	}
	if c.Status != status {
		c.LastTransitionTime = now
	}
	if c.Status != status || c.Reason != reason {
		c.LastUpdateTime = now
	}
	c.Status, c.Reason, c.Message = status, reason, message
}
