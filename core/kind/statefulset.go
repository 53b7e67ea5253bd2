package kind

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func statefulSetKind(gv schema.GroupVersion) *Kind {
	k := define[appsv1.StatefulSet, appsv1.StatefulSetList](gv, "statefulsets", "sts").inAll()
	k.Default = do1(defaultStatefulSet)
	k.Restore = do1(nameClaims)
	k.PrepareCreate = do1(func(s *appsv1.StatefulSet) {
		s.Status = appsv1.StatefulSetStatus{}
		s.Generation = 1
	})
	k.PrepareUpdate = do2(func(s, old *appsv1.StatefulSet) {
		s.Status = *old.Status.DeepCopy()
		raise(s, old, &s.Spec, &old.Spec)
	})
	// Pods are named after it, and they are named in the DNS.
	k.ValidateName = apivalidation.NameIsDNSLabel
	k.Validate = check1(func(s *appsv1.StatefulSet) field.ErrorList {
		errs := validateStatefulSet(s)
		for i := range s.Spec.VolumeClaimTemplates {
			errs = append(errs, validateClaimSpec(field.NewPath("spec", "volumeClaimTemplates").Index(i).Child("spec"), &s.Spec.VolumeClaimTemplates[i].Spec)...)
		}
		return errs
	})
	k.ValidateUpdate = check2(validateStatefulSetUpdate)
	warnOfTemplate(k, false, func(s *appsv1.StatefulSet) []string {
		warnings := templateWarnings(&s.Spec.Template)
		if deref(s.Spec.RevisionHistoryLimit) < 0 {
			warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
		}
		return warnings
	})
	k.Columns = named[*appsv1.StatefulSet]().
		text("Ready", "Number of the pod with ready state", func(s *appsv1.StatefulSet) string {
			return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, deref(s.Spec.Replicas))
		}).
		age().
		template(func(s *appsv1.StatefulSet) *corev1.PodSpec { return &s.Spec.Template.Spec })
	k.Subresources = []Subresource{
		scale(scalable[*appsv1.StatefulSet]{
			replicas: func(s *appsv1.StatefulSet) **int32 { return &s.Spec.Replicas },
			current:  func(s *appsv1.StatefulSet) int32 { return s.Status.Replicas },
			selector: func(s *appsv1.StatefulSet) *metav1.LabelSelector { return s.Spec.Selector },
		}),
		status(func(s, old *appsv1.StatefulSet) {
			s.Spec = *old.Spec.DeepCopy()
			s.Generation = old.Generation
		}, validateStatefulSetStatus),
	}
	return k
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	orElse(&spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		orPointer(&spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if r := spec.UpdateStrategy.RollingUpdate; r != nil && spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		orPointer(&r.Partition, 0)
	}
	orPointer(&spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	orElse(&spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	orElse(&spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	orPointer(&spec.Replicas, 1)
	orPointer(&spec.RevisionHistoryLimit, 10)
	for i := range spec.VolumeClaimTemplates {
		c := &spec.VolumeClaimTemplates[i]
		orElse(&c.Status.Phase, corev1.ClaimPending)
		defaultClaimSpec(&c.Spec)
	}
	defaultPodSpec(&spec.Template.Spec)
	nameClaims(s)
}

func nameClaims(s *appsv1.StatefulSet) {
	for i := range s.Spec.VolumeClaimTemplates {
		c := &s.Spec.VolumeClaimTemplates[i]
		orElse(&c.APIVersion, "v1")
		orElse(&c.Kind, "PersistentVolumeClaim")
	}
}

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	p, spec := field.NewPath("spec"), &s.Spec
	var errs field.ErrorList
	switch spec.PodManagementPolicy {
	case "":
		errs = append(errs, field.Required(p.Child("podManagementPolicy"), ""))
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(p.Child("podManagementPolicy"), spec.PodManagementPolicy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulStrategy(p.Child("updateStrategy"), &spec.UpdateStrategy)...)
	if r := spec.PersistentVolumeClaimRetentionPolicy; r != nil {
		at := p.Child("persistentVolumeClaimRetentionPolicy")
		retain, remove := appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		errs = append(errs, supported(at.Child("whenDeleted"), r.WhenDeleted, retain, remove)...)
		errs = append(errs, supported(at.Child("whenScaled"), r.WhenScaled, retain, remove)...)
	}
	errs = append(errs, nonNegative32(p.Child("replicas"), spec.Replicas)...)
	errs = append(errs, nonNegative(p.Child("minReadySeconds"), int64(spec.MinReadySeconds))...)
	if spec.Ordinals != nil {
		errs = append(errs, nonNegative(p.Child("ordinals.start"), int64(spec.Ordinals.Start))...)
	}
	errs = append(errs, validateSelectorOf(p.Child("selector"), spec.Selector, "statefulset")...)
	errs = append(errs, validateServing(p, withClaims(spec), spec.Selector, "StatefulSet", "")...)
	if spec.ServiceName != "" {
		errs = append(errs, invalids(p.Child("serviceName"), spec.ServiceName, validation.IsDNS1123Label(spec.ServiceName))...)
	}
	return errs
}

// withClaims is the template as its pods will be: every claim is a volume that
// containers can mount, in the place of one with the same name.
func withClaims(s *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	t := s.Template.DeepCopy()
	// Every pod gets its own.
	t.Spec.Hostname, t.Spec.Subdomain = "", ""
	claimed := map[string]bool{}
	for i := range s.VolumeClaimTemplates {
		claimed[s.VolumeClaimTemplates[i].Name] = true
	}
	t.Spec.Volumes = slices.DeleteFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return claimed[v.Name] })
	for i := range s.VolumeClaimTemplates {
		name := s.VolumeClaimTemplates[i].Name
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
	return t
}

func validateStatefulStrategy(p *field.Path, u *appsv1.StatefulSetUpdateStrategy) field.ErrorList {
	switch u.Type {
	case "":
		return field.ErrorList{field.Required(p, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if u.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(p.Child("rollingUpdate"), u.RollingUpdate,
				fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
	default:
		return field.ErrorList{field.Invalid(p, *u, fmt.Sprintf("must be '%s' or '%s'",
			appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
	if u.RollingUpdate == nil {
		return nil
	}
	p = p.Child("rollingUpdate")
	errs := nonNegative32(p.Child("partition"), u.RollingUpdate.Partition)
	if m := u.RollingUpdate.MaxUnavailable; m != nil {
		errs = append(errs, intOrPercent(p.Child("maxUnavailable"), *m)...)
		if isZero(*m) {
			errs = append(errs, field.Invalid(p.Child("maxUnavailable"), *m, "cannot be 0"))
		}
		errs = append(errs, notMoreThanAll(p.Child("maxUnavailable"), *m)...)
	}
	return errs
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	errs := validateStatefulSet(s)
	same := s.Spec.DeepCopy()
	same.Replicas, same.Template, same.UpdateStrategy = old.Spec.Replicas, old.Spec.Template, old.Spec.UpdateStrategy
	same.MinReadySeconds, same.Ordinals = old.Spec.MinReadySeconds, old.Spec.Ordinals
	same.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	same.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !apiequality.Semantic.DeepEqual(*same, old.Spec) {
		errs = append(errs, field.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

func validateStatefulSetStatus(s, old *appsv1.StatefulSet) field.ErrorList {
	p, st := field.NewPath("status"), &s.Status
	errs := counts(p, map[string]int32{
		"replicas": st.Replicas, "readyReplicas": st.ReadyReplicas, "currentReplicas": st.CurrentReplicas,
		"updatedReplicas": st.UpdatedReplicas, "availableReplicas": st.AvailableReplicas,
	})
	errs = append(errs, nonNegative(p.Child("observedGeneration"), st.ObservedGeneration)...)
	errs = append(errs, validateCollisions(p.Child("collisionCount"), st.CollisionCount, old.Status.CollisionCount)...)
	errs = append(errs, atMost(p.Child("readyReplicas"), st.ReadyReplicas, st.Replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("currentReplicas"), st.CurrentReplicas, st.Replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("updatedReplicas"), st.UpdatedReplicas, st.Replicas, "status.replicas")...)
	errs = append(errs, atMost(p.Child("availableReplicas"), st.AvailableReplicas, st.Replicas, "status.replicas")...)
	return append(errs, atMost(p.Child("availableReplicas"), st.AvailableReplicas, st.ReadyReplicas, "status.readyReplicas")...)
}
