package kind

import (
	"maps"
	"math"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	appsv1beta1 "k8s.io/api/apps/v1beta1"
	appsv1beta2 "k8s.io/api/apps/v1beta2"
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fromTemplate gives a workload the labels of its pods, and a selector for
// them, where its author left that out: the old versions allowed it.
func fromTemplate(labels *map[string]string, selector **metav1.LabelSelector, t *corev1.PodTemplateSpec) {
	if t.Labels == nil {
		return
	}
	if *selector == nil {
		*selector = &metav1.LabelSelector{MatchLabels: maps.Clone(t.Labels)}
	}
	if len(*labels) == 0 {
		*labels = maps.Clone(t.Labels)
	}
}

// rollbackTo was a field; apps/v1 has only an annotation that keeps it.
func keepRollback(revision *int64, out *appsv1.Deployment) {
	if revision == nil {
		return
	}
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Annotations[appsv1.DeprecatedRollbackTo] = strconv.FormatInt(*revision, 10)
}

// takeRollback is keepRollback's way back: nil where there is no rollback.
func takeRollback(annotations map[string]string) *int64 {
	text, ok := annotations[appsv1.DeprecatedRollbackTo]
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	delete(annotations, appsv1.DeprecatedRollbackTo)
	return &n
}

func retiredDeployments() []Version {
	type ext = extensionsv1beta1.Deployment
	type beta1 = appsv1beta1.Deployment
	type beta2 = appsv1beta2.Deployment
	return []Version{
		retiredVersion[beta2, appsv1beta2.DeploymentList](appsv1beta2.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*beta2, *appsv1.Deployment]{}),
		retiredVersion[beta1, appsv1beta1.DeploymentList](appsv1beta1.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*beta1, *appsv1.Deployment]{
				defaults: func(d *beta1) {
					fromTemplate(&d.Labels, &d.Spec.Selector, &d.Spec.Template)
					orPointer(&d.Spec.RevisionHistoryLimit, 2)
				},
				toHub: func(in *beta1, out *appsv1.Deployment) {
					if in.Spec.RollbackTo != nil {
						keepRollback(&in.Spec.RollbackTo.Revision, out)
					}
				},
				fromHub: func(_ *appsv1.Deployment, out *beta1) {
					if n := takeRollback(out.Annotations); n != nil {
						out.Spec.RollbackTo = &appsv1beta1.RollbackConfig{Revision: *n}
					}
				},
			}),
		retiredVersion[ext, extensionsv1beta1.DeploymentList](extensionsv1beta1.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*ext, *appsv1.Deployment]{
				defaults: func(d *ext) {
					fromTemplate(&d.Labels, &d.Spec.Selector, &d.Spec.Template)
					s := &d.Spec.Strategy
					orElse(&s.Type, extensionsv1beta1.RollingUpdateDeploymentStrategyType)
					if s.Type == extensionsv1beta1.RollingUpdateDeploymentStrategyType {
						orPointer(&s.RollingUpdate, extensionsv1beta1.RollingUpdateDeployment{})
						orPointer(&s.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
						orPointer(&s.RollingUpdate.MaxSurge, intstr.FromInt32(1))
					}
					// The largest number means for ever, as unset did.
					orPointer(&d.Spec.ProgressDeadlineSeconds, math.MaxInt32)
					orPointer(&d.Spec.RevisionHistoryLimit, math.MaxInt32)
				},
				toHub: func(in *ext, out *appsv1.Deployment) {
					if in.Spec.RollbackTo != nil {
						keepRollback(&in.Spec.RollbackTo.Revision, out)
					}
				},
				fromHub: func(_ *appsv1.Deployment, out *ext) {
					if n := takeRollback(out.Annotations); n != nil {
						out.Spec.RollbackTo = &extensionsv1beta1.RollbackConfig{Revision: *n}
					}
				},
			}),
	}
}

func retiredReplicaSets() []Version {
	type ext = extensionsv1beta1.ReplicaSet
	type beta2 = appsv1beta2.ReplicaSet
	return []Version{
		retiredVersion[beta2, appsv1beta2.ReplicaSetList](appsv1beta2.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*beta2, *appsv1.ReplicaSet]{}),
		retiredVersion[ext, extensionsv1beta1.ReplicaSetList](extensionsv1beta1.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*ext, *appsv1.ReplicaSet]{
				defaults: func(rs *ext) { fromTemplate(&rs.Labels, &rs.Spec.Selector, &rs.Spec.Template) },
			}),
	}
}

func retiredDaemonSets() []Version {
	type ext = extensionsv1beta1.DaemonSet
	type beta2 = appsv1beta2.DaemonSet
	return []Version{
		retiredVersion[beta2, appsv1beta2.DaemonSetList](appsv1beta2.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*beta2, *appsv1.DaemonSet]{}),
		retiredVersion[ext, extensionsv1beta1.DaemonSetList](extensionsv1beta1.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*ext, *appsv1.DaemonSet]{
				defaults: func(d *ext) {
					fromTemplate(&d.Labels, &d.Spec.Selector, &d.Spec.Template)
					orElse(&d.Spec.UpdateStrategy.Type, extensionsv1beta1.OnDeleteDaemonSetStrategyType)
				},
				toHub: func(in *ext, out *appsv1.DaemonSet) {
					if in.Spec.TemplateGeneration > 0 {
						delete(out.Annotations, appsv1.DeprecatedTemplateGeneration)
						setTemplateGeneration(out, in.Spec.TemplateGeneration)
					}
				},
				fromHub: func(in *appsv1.DaemonSet, out *ext) {
					if n := templateGeneration(in); n > 0 {
						out.Spec.TemplateGeneration = n
						delete(out.Annotations, appsv1.DeprecatedTemplateGeneration)
					}
				},
			}),
	}
}

func retiredStatefulSets() []Version {
	type beta1 = appsv1beta1.StatefulSet
	type beta2 = appsv1beta2.StatefulSet
	return []Version{
		retiredVersion[beta2, appsv1beta2.StatefulSetList](appsv1beta2.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*beta2, *appsv1.StatefulSet]{}),
		retiredVersion[beta1, appsv1beta1.StatefulSetList](appsv1beta1.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*beta1, *appsv1.StatefulSet]{
				defaults: func(s *beta1) {
					fromTemplate(&s.Labels, &s.Spec.Selector, &s.Spec.Template)
					orElse(&s.Spec.UpdateStrategy.Type, appsv1beta1.OnDeleteStatefulSetStrategyType)
				},
			}),
	}
}

func retiredRevisions() []Version {
	return []Version{
		retiredVersion[appsv1beta2.ControllerRevision, appsv1beta2.ControllerRevisionList](appsv1beta2.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*appsv1beta2.ControllerRevision, *appsv1.ControllerRevision]{}),
		retiredVersion[appsv1beta1.ControllerRevision, appsv1beta1.ControllerRevisionList](appsv1beta1.SchemeGroupVersion, appsv1.SchemeGroupVersion,
			fixes[*appsv1beta1.ControllerRevision, *appsv1.ControllerRevision]{}),
	}
}
