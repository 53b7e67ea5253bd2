package deployment

import (
	"cmp"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/controller"
)

// Annotations of a ReplicaSet that record what its Deployment asked for when
// it was last scaled: upstream's names, other tools read them.
const (
	desiredAnnotation = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation     = "deployment.kubernetes.io/max-replicas"
)

// scale plans a ReplicaSet's replicas, with the annotations that go with them.
func (r *rollout) scale(rs *appsv1.ReplicaSet, to int32) {
	from := *rs.Spec.Replicas
	next := rs.DeepCopy()
	next.Spec.Replicas = &to
	if !r.annotateScale(next) && from == to {
		return
	}
	r.plan.Add(controller.Update(next))
	if from == to {
		return
	}
	r.scaled = true
	direction := "up"
	if to < from {
		direction = "down"
	}
	r.plan.Add(controller.Event(r.d, corev1.EventTypeNormal, "ScalingReplicaSet",
		"Scaled %s replica set %s from %d to %d", direction, rs.Name, from, to))
}

// annotateScale sets the annotations of scaling and reports whether they changed.
func (r *rollout) annotateScale(rs *appsv1.ReplicaSet) bool {
	desired := strconv.Itoa(int(r.want()))
	most := strconv.Itoa(int(r.want() + r.maxSurge()))
	if rs.Annotations[desiredAnnotation] == desired && rs.Annotations[maxAnnotation] == most {
		return false
	}
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[desiredAnnotation], rs.Annotations[maxAnnotation] = desired, most
	return true
}

// scalingEvent reports whether replicas of the Deployment changed since its
// ReplicaSets were last scaled.
func (r *rollout) scalingEvent() bool {
	for _, rs := range active(r.sets) {
		n, err := strconv.Atoi(rs.Annotations[desiredAnnotation])
		if err == nil && int32(n) != r.want() {
			return true
		}
	}
	return false
}

// scaleAll brings the number of pods to the Deployment's without rolling on:
// one ReplicaSet takes it all, several share it in proportion.
func (r *rollout) scaleAll() {
	now := active(r.sets)
	if len(now) <= 1 {
		one := r.new
		if len(now) == 1 {
			one = now[0]
		} else if one == nil && len(r.old) > 0 {
			one = r.old[len(r.old)-1]
		}
		if one != nil {
			r.scale(one, r.want())
		}
		return
	}
	if r.new != nil && r.saturated(r.new) {
		for _, rs := range active(r.old) {
			r.scale(rs, 0)
		}
		return
	}
	if r.d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return
	}
	r.proportionally(now)
}

func (r *rollout) saturated(rs *appsv1.ReplicaSet) bool {
	desired, err := strconv.Atoi(rs.Annotations[desiredAnnotation])
	return err == nil && *rs.Spec.Replicas == r.want() && int32(desired) == r.want() && rs.Status.AvailableReplicas == r.want()
}

// proportionally spreads the pods to add or remove over the ReplicaSets by
// size, larger ones first and newer ones first when growing; the largest takes
// what rounding leaves.
func (r *rollout) proportionally(sets []*appsv1.ReplicaSet) {
	var allowed int32
	if r.want() > 0 {
		allowed = r.want() + r.maxSurge()
	}
	add := allowed - replicas(sets)
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if c := cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas); c != 0 {
			return c
		}
		if add > 0 {
			return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
		}
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	left := add
	target := make([]int32, len(sets))
	for i, rs := range sets {
		target[i] = *rs.Spec.Replicas
		if add != 0 {
			share := r.share(rs, allowed)
			if add > 0 {
				share = min(share, left)
			} else {
				share = max(share, left)
			}
			target[i] += share
			left -= share
		}
	}
	target[0] = max(0, target[0]+left)
	for i, rs := range sets {
		r.scale(rs, target[i])
	}
}

// share is how many pods of the change fall to rs: its size when it was last
// scaled, relative to the most the Deployment allowed then.
func (r *rollout) share(rs *appsv1.ReplicaSet, allowed int32) int32 {
	if r.want() == 0 {
		return -*rs.Spec.Replicas
	}
	before, err := strconv.Atoi(rs.Annotations[maxAnnotation])
	if err != nil || before == 0 {
		before = int(r.d.Status.Replicas)
		if before == 0 {
			return 0
		}
	}
	size := float64(*rs.Spec.Replicas) * float64(allowed) / float64(before)
	return int32(size+0.5) - *rs.Spec.Replicas
}
