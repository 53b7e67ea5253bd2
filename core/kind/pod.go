package kind

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func podKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Pod, corev1.PodList](gv, "pods", "po").inAll()
	k.Default = do1(defaultPod)
	k.PrepareCreate = do1(preparePodCreate)
	k.PrepareUpdate = do2(preparePodUpdate)
	k.Validate = check1(validatePod)
	k.ValidateUpdate = check2(validatePodUpdate)
	k.Warnings = warn1(func(p *corev1.Pod) []string { return podCreateWarnings(p) })
	// People do not write pods that are there; their controllers do.
	k.WarningsOnUpdate = func(_, _ Object) []string { return nil }
	k.GracePeriod = podGracePeriod
	k.Fields = select1(podFields)
	k.Columns = podColumns()
	k.Subresources = []Subresource{
		{Name: "attach", Body: gv.WithKind("PodAttachOptions"), Verbs: []string{"create", "get"}},
		{Name: "binding", Body: gv.WithKind("Binding"), Verbs: []string{"create"}},
		{
			Name:           "ephemeralcontainers",
			Verbs:          readWrite(),
			PrepareUpdate:  do2(prepareEphemeralContainers),
			ValidateUpdate: check2(validateEphemeralContainersUpdate),
		},
		{Name: "eviction", Body: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"}},
		{Name: "exec", Body: gv.WithKind("PodExecOptions"), Verbs: []string{"create", "get"}},
		{Name: "log", Verbs: []string{"get"}},
		{Name: "portforward", Body: gv.WithKind("PodPortForwardOptions"), Verbs: []string{"create", "get"}},
		{Name: "proxy", Body: gv.WithKind("PodProxyOptions"), Verbs: proxyVerbs()},
		{
			Name:           "resize",
			Verbs:          readWrite(),
			PrepareUpdate:  do2(preparePodResize),
			ValidateUpdate: check2(validatePodResize),
		},
		status(preparePodStatus, validatePodStatus),
	}
	return k
}

func preparePodCreate(p *corev1.Pod) {
	p.Generation = 1
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		*g = 1
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: QOSClass(&p.Spec)}
	// Pods with gates say so from the start, as KEP-3521 wants.
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:               corev1.PodScheduled,
			Status:             corev1.ConditionFalse,
			LastTransitionTime: p.CreationTimestamp,
			Reason:             corev1.PodReasonSchedulingGated,
			Message:            "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
}

func preparePodUpdate(p, old *corev1.Pod) {
	p.Status = *old.Status.DeepCopy()
	// What the priority's class once said stays.
	if p.Spec.Priority == nil {
		p.Spec.Priority = copied(old.Spec.Priority)
	}
	if p.Spec.PreemptionPolicy == nil {
		p.Spec.PreemptionPolicy = copied(old.Spec.PreemptionPolicy)
	}
	podGeneration(p, old)
}

func podGeneration(p, old *corev1.Pod) {
	p.Generation = old.Generation
	if !apiequality.Semantic.DeepEqual(p.Spec, old.Spec) {
		p.Generation++
	}
}

func preparePodStatus(p, old *corev1.Pod) {
	p.Spec = *old.Spec.DeepCopy()
	p.Generation = old.Generation
	p.DeletionTimestamp = nil
	if old.DeletionTimestamp != nil {
		t := *old.DeletionTimestamp
		p.DeletionTimestamp = &t
	}
	p.OwnerReferences = old.DeepCopy().OwnerReferences
	orElse(&p.Status.QOSClass, old.Status.QOSClass)
	keepObserved(p, old)
	// podIP is podIPs[0], whichever of them the writer knows.
	switch {
	case p.Status.PodIP == "" && len(p.Status.PodIPs) > 0 && old.Status.PodIP == "":
		p.Status.PodIP = p.Status.PodIPs[0].IP
	case p.Status.PodIP == "":
		p.Status.PodIPs = nil
	case len(p.Status.PodIPs) == 0 || p.Status.PodIPs[0].IP != p.Status.PodIP:
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
}

// keepObserved keeps the generations of reporters that do not know them yet.
// Several conditions may have the same type.
func keepObserved(p, old *corev1.Pod) {
	orElse(&p.Status.ObservedGeneration, old.Status.ObservedGeneration)
	was := map[corev1.PodConditionType][]int64{}
	for _, c := range old.Status.Conditions {
		was[c.Type] = append(was[c.Type], c.ObservedGeneration)
	}
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		if seen := was[c.Type]; len(seen) > 0 {
			orElse(&c.ObservedGeneration, seen[0])
			was[c.Type] = seen[1:]
		}
	}
}

func prepareEphemeralContainers(p, old *corev1.Pod) {
	added := p.Spec.EphemeralContainers
	meta := p.ObjectMeta
	old.DeepCopyInto(p)
	p.ResourceVersion, p.ManagedFields = meta.ResourceVersion, meta.ManagedFields
	p.Spec.EphemeralContainers = added
	podGeneration(p, old)
}

// preparePodResize lets only the containers' resources and resize policies in.
func preparePodResize(p, old *corev1.Pod) {
	wanted := p.DeepCopy()
	old.DeepCopyInto(p)
	p.ResourceVersion, p.ManagedFields = wanted.ResourceVersion, wanted.ManagedFields
	take := func(to, from []corev1.Container) {
		for i := range to {
			for j := range from {
				if to[i].Name == from[j].Name {
					to[i].Resources, to[i].ResizePolicy = from[j].Resources, from[j].ResizePolicy
				}
			}
		}
	}
	take(p.Spec.Containers, wanted.Spec.Containers)
	take(p.Spec.InitContainers, wanted.Spec.InitContainers)
	p.Spec.Resources = wanted.Spec.Resources
	podGeneration(p, old)
}

// podGracePeriod is what the pod says where the client does not; a pod that no
// node runs goes at once.
func podGracePeriod(o Object, asked *int64) (int64, bool) {
	p := o.(*corev1.Pod)
	var seconds int64
	switch {
	case p.Spec.NodeName == "", p.Status.Phase == corev1.PodFailed, p.Status.Phase == corev1.PodSucceeded:
		return 0, true
	case asked != nil:
		seconds = *asked
	case p.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if seconds < 0 {
		seconds = 1
	}
	return seconds, true
}

func podFields(p *corev1.Pod) fields.Set {
	podIP := p.Status.PodIP
	if podIP == "" && len(p.Status.PodIPs) > 0 {
		podIP = p.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.host":                p.Spec.NodeName, // its old name
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         boolText(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             podIP,
		"status.podIPs":            podIP,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// QOSClass is how a node ranks a pod under pressure, by its cpu and memory.
func QOSClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	compute := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
	sum := func(to, from corev1.ResourceList) (found int) {
		for _, name := range compute {
			if q, ok := from[name]; ok && q.Sign() > 0 {
				found++
				total := to[name]
				total.Add(q)
				to[name] = total
			}
		}
		return found
	}
	if spec.Resources != nil && len(spec.Resources.Requests)+len(spec.Resources.Limits) > 0 {
		sum(requests, spec.Resources.Requests)
		guaranteed = sum(limits, spec.Resources.Limits) == len(compute)
	} else {
		for _, cs := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
			for i := range cs {
				sum(requests, cs[i].Resources.Requests)
				if sum(limits, cs[i].Resources.Limits) != len(compute) {
					guaranteed = false
				}
			}
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if guaranteed && len(requests) == len(limits) {
		for name, q := range requests {
			if l, ok := limits[name]; !ok || l.Cmp(q) != 0 {
				guaranteed = false
			}
		}
		if guaranteed {
			return corev1.PodQOSGuaranteed
		}
	}
	return corev1.PodQOSBurstable
}

func podTemplateKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.PodTemplate, corev1.PodTemplateList](gv, "podtemplates")
	k.Default = do1(func(t *corev1.PodTemplate) { defaultPodSpec(&t.Template.Spec) })
	k.PrepareCreate = do1(func(t *corev1.PodTemplate) { t.Generation = 1 })
	k.PrepareUpdate = do2(func(t, old *corev1.PodTemplate) {
		t.Generation = old.Generation
		if !apiequality.Semantic.DeepEqual(t.Template, old.Template) {
			t.Generation++
		}
	})
	k.Validate = check1(func(t *corev1.PodTemplate) field.ErrorList {
		return validatePodTemplate(&t.Template, field.NewPath("template"))
	})
	k.ValidateUpdate = check2(func(t, _ *corev1.PodTemplate) field.ErrorList {
		return validatePodTemplate(&t.Template, field.NewPath("template"))
	})
	k.ValidateName = apivalidation.NameIsDNSSubdomain
	k.Warnings = warn1(func(t *corev1.PodTemplate) []string {
		return podWarnings(field.NewPath("template"), &t.Template.ObjectMeta, &t.Template.Spec)
	})
	k.Columns = named[*corev1.PodTemplate]().
		text("Containers", "Names of each container in the template.", func(t *corev1.PodTemplate) string {
			return containerNames(t.Template.Spec.Containers)
		}).
		text("Images", "Images referenced by each container in the template.", func(t *corev1.PodTemplate) string {
			return containerImages(t.Template.Spec.Containers)
		}).
		text("Pod Labels", "The labels for the pod template.", func(t *corev1.PodTemplate) string {
			return labelsText(t.Template.Labels)
		})
	return k
}
