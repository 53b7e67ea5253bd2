package deployment

import (
	"context"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

var gvk = appsv1.SchemeGroupVersion.WithKind("Deployment")

// New returns the controller of Deployments.
func New() controller.Controller {
	return controller.Controller{
		Name:    "deployment",
		Workers: 5,
		Inputs: []controller.Input{
			{Resource: client.Resource{Group: "apps", Resource: "deployments"}, Keys: controller.Self},
			{Resource: client.Resource{Group: "apps", Resource: "replicasets"}, Keys: setKeys},
			// Recreate waits for the last old pod to be gone.
			{Resource: client.Resource{Resource: "pods"}, Keys: podKeys},
		},
		Writes: []string{"deployments.apps/status", "replicasets.apps"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			d, ok := controller.Get[*appsv1.Deployment](s, key.Namespace, key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			r := observe(s, d)
			r.decide()
			return r.plan, nil
		},
	}
}

func setKeys(s controller.State, obj client.Object) []client.Key {
	if metav1.GetControllerOf(obj) != nil {
		return controller.OwnerOf("Deployment")(s, obj)
	}
	var keys []client.Key
	for _, d := range controller.List[*appsv1.Deployment](s, obj.GetNamespace()) {
		if selects(d, obj) {
			keys = append(keys, client.KeyOf(d))
		}
	}
	return keys
}

func podKeys(s controller.State, obj client.Object) []client.Key {
	ref := metav1.GetControllerOf(obj)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return nil
	}
	rs, ok := controller.Get[*appsv1.ReplicaSet](s, obj.GetNamespace(), ref.Name)
	if !ok {
		return nil
	}
	d := metav1.GetControllerOf(rs)
	if d == nil || d.Kind != "Deployment" {
		return nil
	}
	key := client.Key{Namespace: rs.Namespace, Name: d.Name}
	if dep, ok := controller.Get[*appsv1.Deployment](s, key.Namespace, key.Name); !ok || dep.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []client.Key{key}
}

func selects(d *appsv1.Deployment, obj client.Object) bool {
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	return err == nil && !sel.Empty() && sel.Matches(labels.Set(obj.GetLabels()))
}

// rollout is one reconciliation: what is there, and the plan as it grows.
type rollout struct {
	d    *appsv1.Deployment
	s    controller.State
	sets []*appsv1.ReplicaSet // all it controls, oldest first
	new  *appsv1.ReplicaSet   // of the present template, nil when there is none
	old  []*appsv1.ReplicaSet // the others, oldest first
	plan controller.Plan
	// collisions counts hash collisions, for status.collisionCount.
	collisions *int32
	scaled     bool   // the plan scales or makes a ReplicaSet
	created    string // name of the ReplicaSet the plan makes
	revision   string // the Deployment's, once known
}

func observe(s controller.State, d *appsv1.Deployment) *rollout {
	r := &rollout{d: d, s: s, collisions: d.Status.CollisionCount}
	for _, rs := range controller.List[*appsv1.ReplicaSet](s, d.Namespace) {
		ref, matches := metav1.GetControllerOf(rs), selects(d, rs)
		switch {
		case ref != nil && ref.UID == d.UID && matches:
			r.sets = append(r.sets, rs)
		case ref != nil && ref.UID == d.UID && d.DeletionTimestamp == nil:
			r.plan.Add(controller.PatchOwners(rs, slices.DeleteFunc(slices.Clone(rs.OwnerReferences),
				func(o metav1.OwnerReference) bool { return o.UID == d.UID })))
		case ref == nil && matches && d.DeletionTimestamp == nil && rs.DeletionTimestamp == nil:
			// Seen as ours when the change comes back.
			r.plan.Add(controller.PatchOwners(rs, append(slices.Clone(rs.OwnerReferences), *metav1.NewControllerRef(d, gvk))))
		}
	}
	slices.SortFunc(r.sets, func(a, b *appsv1.ReplicaSet) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, rs := range r.sets {
		if r.new == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			r.new = rs // the oldest of equals, as upstream: deterministic
		} else {
			r.old = append(r.old, rs)
		}
	}
	return r
}

func (r *rollout) decide() {
	switch {
	case r.d.DeletionTimestamp != nil:
	case r.d.Spec.Paused, r.scalingEvent():
		if r.new == nil || !r.number() {
			r.scaleAll()
		}
		if r.d.Spec.Paused && len(active(r.old)) == 0 {
			r.cleanUp()
		}
	case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
	default:
		r.rolling()
	}
	r.status()
}

// recreate takes all old pods down before the first new one comes.
func (r *rollout) recreate() {
	for _, rs := range active(r.old) {
		r.scale(rs, 0)
	}
	if r.scaled || r.oldPodsRemain() {
		return
	}
	if r.new == nil {
		r.makeNew(r.want())
		return
	}
	if r.number() {
		return
	}
	r.scale(r.new, r.want())
	if !r.scaled && r.complete() {
		r.cleanUp()
	}
}

func (r *rollout) oldPodsRemain() bool {
	old := map[string]bool{}
	for _, rs := range r.old {
		old[string(rs.UID)] = true
	}
	for _, p := range controller.List[*corev1.Pod](r.s, r.d.Namespace) {
		ref := metav1.GetControllerOf(p)
		if ref != nil && old[string(ref.UID)] && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return true
		}
	}
	return false
}

func (r *rollout) rolling() {
	if r.new == nil {
		r.makeNew(r.newReplicas(0))
		return
	}
	if r.number() {
		return
	}
	switch have := *r.new.Spec.Replicas; {
	case have > r.want():
		r.scale(r.new, r.want())
	case have < r.want():
		r.scale(r.new, r.newReplicas(have))
	}
	if !r.scaled {
		r.scaleDownOld()
	}
	if !r.scaled && r.complete() {
		r.cleanUp()
	}
}

// newReplicas returns how many pods of the new template may be there, given
// how many there are.
func (r *rollout) newReplicas(have int32) int32 {
	room := r.want() + r.maxSurge() - replicas(r.sets)
	if room <= 0 {
		return have
	}
	return have + min(room, r.want()-have)
}

// scaleDownOld removes old pods: first those that are not healthy, which costs
// no availability, then as many as the new ones make up for.
func (r *rollout) scaleDownOld() {
	old := active(r.old)
	if len(old) == 0 || r.new == nil {
		return
	}
	least := r.want() - r.maxUnavailable()
	newUnavailable := *r.new.Spec.Replicas - r.new.Status.AvailableReplicas
	budget := replicas(r.sets) - least - newUnavailable
	if budget <= 0 {
		return
	}
	target := map[*appsv1.ReplicaSet]int32{}
	for _, rs := range old {
		target[rs] = *rs.Spec.Replicas
		if unhealthy := min(budget, *rs.Spec.Replicas-rs.Status.AvailableReplicas); unhealthy > 0 {
			target[rs] -= unhealthy
			budget -= unhealthy
		}
	}
	spare := available(r.sets) - least
	for _, rs := range old {
		if n := min(spare, target[rs]); n > 0 {
			target[rs] -= n
			spare -= n
		}
	}
	for _, rs := range old {
		r.scale(rs, target[rs])
	}
}

func (r *rollout) want() int32 { return *r.d.Spec.Replicas }

func (r *rollout) maxSurge() int32 {
	surge, _ := r.fenceposts()
	return surge
}

func (r *rollout) maxUnavailable() int32 {
	_, unavailable := r.fenceposts()
	return min(unavailable, r.want())
}

// fenceposts resolves percentages; they cannot both be 0, or nothing would move.
func (r *rollout) fenceposts() (surge, unavailable int32) {
	ru := r.d.Spec.Strategy.RollingUpdate
	if r.d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || ru == nil {
		return 0, 0
	}
	scaled := func(v *intstr.IntOrString, up bool) int32 {
		n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), int(r.want()), up)
		if err != nil {
			return 0 // validation refuses such values
		}
		return int32(n)
	}
	surge, unavailable = scaled(ru.MaxSurge, true), scaled(ru.MaxUnavailable, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range sets {
		if *rs.Spec.Replicas > 0 {
			out = append(out, rs)
		}
	}
	return out
}

func replicas(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += *rs.Spec.Replicas
	}
	return n
}

func available(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}
