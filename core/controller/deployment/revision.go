package deployment

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/telemetry"
)

const (
	hashLabel         = appsv1.DefaultDeploymentUniqueLabelKey // pod-template-hash
	revisionKey       = "deployment.kubernetes.io/revision"
	revisionHistory   = "deployment.kubernetes.io/revision-history"
	maxHistoryBytes   = 2000
	maxNameBeforeHash = 253 - 11 // room for "-" and the hash
)

// notCopied are annotations of a Deployment that its ReplicaSets do not take over.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation, revisionKey, revisionHistory, desiredAnnotation, maxAnnotation,
	appsv1.DeprecatedRollbackTo, telemetry.TraceAnnotation,
}

// sameTemplate compares templates, leaving out the hash label that ReplicaSets add.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	if _, ok := t.Labels[hashLabel]; !ok {
		return t
	}
	t = t.DeepCopy()
	delete(t.Labels, hashLabel)
	return t
}

// hash names a template. collisions makes another name for the same template
// when a different one took the first.
func hash(t *corev1.PodTemplateSpec, collisions *int32) (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("cannot hash pod template: %w", err)
	}
	h := fnv.New32a()
	h.Write(b)
	if collisions != nil {
		fmt.Fprint(h, *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10)), nil
}

// makeNew plans the ReplicaSet of the present template with n replicas.
func (r *rollout) makeNew(n int32) {
	sum, err := hash(&r.d.Spec.Template, r.collisions)
	if err != nil {
		panic(err) // an API type that cannot be marshalled
	}
	name := r.d.Name
	if len(name) > maxNameBeforeHash {
		name = name[:maxNameBeforeHash]
	}
	name += "-" + sum
	if _, taken := controller.Get[*appsv1.ReplicaSet](r.s, r.d.Namespace, name); taken {
		// Another template has this hash. The next reconciliation, which
		// the status change brings, tries the next name.
		next := int32(1)
		if r.collisions != nil {
			next = *r.collisions + 1
		}
		r.collisions = &next
		return
	}
	template := r.d.Spec.Template.DeepCopy()
	template.Labels = withLabel(template.Labels, hashLabel, sum)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hashLabel, sum)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.d.Namespace, Name: name,
			Labels:          maps.Clone(template.Labels),
			Annotations:     map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.d, gvk)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &n, MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: *template,
		},
	}
	r.copyAnnotations(rs)
	rs.Annotations[revisionKey] = strconv.FormatInt(r.lastRevision()+1, 10)
	r.annotateScale(rs)
	r.plan.Add(controller.Create(rs))
	r.scaled, r.created = true, name
	if n > 0 {
		r.plan.Add(controller.Event(r.d, corev1.EventTypeNormal, "ScalingReplicaSet",
			"Scaled up replica set %s from 0 to %d", rs.Name, n))
	}
	r.revision = rs.Annotations[revisionKey]
}

// number gives the ReplicaSet of the present template the highest revision and
// the Deployment's annotations. It reports
// whether that changes the ReplicaSet, which must be seen before it is scaled.
func (r *rollout) number() bool {
	next := r.new.DeepCopy()
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	last, have := r.lastRevision(), revision(r.new)
	if have <= last {
		if have > 0 {
			next.Annotations[revisionHistory] = history(next.Annotations[revisionHistory], next.Annotations[revisionKey])
		}
		next.Annotations[revisionKey] = strconv.FormatInt(last+1, 10)
	}
	r.copyAnnotations(next)
	next.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	r.revision = next.Annotations[revisionKey]
	if equality.Semantic.DeepEqual(next, r.new) {
		return false
	}
	r.plan.Add(controller.Update(next))
	return true
}

func (r *rollout) copyAnnotations(rs *appsv1.ReplicaSet) {
	for k, v := range r.d.Annotations {
		if !slices.Contains(notCopied, k) {
			rs.Annotations[k] = v
		}
	}
}

// lastRevision is the highest revision of an old ReplicaSet.
func (r *rollout) lastRevision() int64 {
	var n int64
	for _, rs := range r.old {
		n = max(n, revision(rs))
	}
	return n
}

func revision(o client.Object) int64 {
	n, err := strconv.ParseInt(o.GetAnnotations()[revisionKey], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// history appends a revision to the list of those a ReplicaSet has had, the
// oldest dropped when it grows too long.
func history(have, rev string) string {
	list := strings.Split(have, ",")
	if have == "" {
		list = nil
	}
	list = append(list, rev)
	for len(list) > 1 && len(strings.Join(list, ",")) > maxHistoryBytes {
		list = list[1:]
	}
	return strings.Join(list, ",")
}

// cleanUp deletes the oldest ReplicaSets beyond the history limit.
func (r *rollout) cleanUp() {
	if r.d.Spec.RevisionHistoryLimit == nil {
		return
	}
	var idle []*appsv1.ReplicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil && *rs.Spec.Replicas == 0 && rs.Status.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			idle = append(idle, rs)
		}
	}
	slices.SortStableFunc(idle, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	for _, rs := range idle[:max(0, len(idle)-int(*r.d.Spec.RevisionHistoryLimit))] {
		r.plan.Add(controller.Delete(rs))
	}
}

func withLabel(in map[string]string, k, v string) map[string]string {
	out := maps.Clone(in)
	if out == nil {
		out = map[string]string{}
	}
	out[k] = v
	return out
}
