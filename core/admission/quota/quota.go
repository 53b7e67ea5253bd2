package quota

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
)

var (
	podResource     = client.Resource{Resource: "pods"}
	serviceResource = client.Resource{Resource: "services"}
	claimResource   = client.Resource{Resource: "persistentvolumeclaims"}
)

const (
	classInfix         = ".storageclass.storage.k8s.io/"
	requestsPrefix     = corev1.DefaultResourceRequestsPrefix
	limitsPrefix       = "limits."
	countPrefix        = "count/"
	hugePagesPrefix    = corev1.ResourceHugePagesPrefix
	kubernetesIODomain = "kubernetes.io/"
)

// countName is the name under which objects of any kind can be counted.
func countName(r client.Resource) corev1.ResourceName {
	if r.Group == "" {
		return corev1.ResourceName(countPrefix + r.Resource)
	}
	return corev1.ResourceName(countPrefix + r.Resource + "." + r.Group)
}

// legacyCount are the core kinds that are counted under their bare name too.
func legacyCount(r client.Resource) bool {
	if r.Group != "" {
		return false
	}
	switch r.Resource {
	case "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services":
		return true
	}
	return false
}

// Usage returns what one stored object uses, under all its names.
func Usage(r client.Resource, o client.Object) corev1.ResourceList {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	used := corev1.ResourceList{countName(r): one}
	if legacyCount(r) {
		used[corev1.ResourceName(r.Resource)] = one
	}
	switch o := o.(type) {
	case *corev1.Pod:
		podUsage(o, used)
	case *corev1.Service:
		serviceUsage(o, used)
	case *corev1.PersistentVolumeClaim:
		claimUsage(o, used)
	}
	return used
}

func podUsage(pod *corev1.Pod, used corev1.ResourceList) {
	// A pod that has ended, or that has outlived its grace period, uses
	// nothing but its place.
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return
	}
	used[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	requests, limits := PodTotals(&pod.Spec)
	for name, q := range requests {
		switch {
		case name == corev1.ResourceCPU, name == corev1.ResourceMemory, name == corev1.ResourceEphemeralStorage, strings.HasPrefix(string(name), hugePagesPrefix):
			used[name] = q
			used[requestsPrefix+name] = q
		case extended(name):
			used[requestsPrefix+name] = q
		}
	}
	for name, q := range limits {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			used[limitsPrefix+name] = q
		}
	}
}

func extended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), kubernetesIODomain)
}

// PodTotals returns what a pod requests and may use: its containers and
// sidecars together or, if more, an init container with the sidecars started
// before it; what the pod says as a whole goes before that; its overhead comes on
// top.
func PodTotals(pod *corev1.PodSpec) (requests, limits corev1.ResourceList) {
	requests = total(pod, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests })
	limits = total(pod, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits })
	if r := pod.Resources; r != nil {
		for name, q := range r.Requests {
			requests[name] = q.DeepCopy()
		}
		for name, q := range r.Limits {
			limits[name] = q.DeepCopy()
		}
	}
	add(requests, pod.Overhead)
	for name, q := range pod.Overhead {
		if have, ok := limits[name]; ok {
			have.Add(q)
			limits[name] = have
		}
	}
	return requests, limits
}

func total(pod *corev1.PodSpec, of func(*corev1.Container) corev1.ResourceList) corev1.ResourceList {
	sum, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.InitContainers {
		c := &pod.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(sidecars, of(c))
			Larger(peak, sidecars)
			continue
		}
		during := sidecars.DeepCopy()
		add(during, of(c))
		Larger(peak, during)
	}
	for i := range pod.Containers {
		add(sum, of(&pod.Containers[i]))
	}
	add(sum, sidecars)
	Larger(sum, peak)
	return sum
}

func add(sum, list corev1.ResourceList) {
	for name, q := range list {
		have := sum[name]
		have.Add(q)
		sum[name] = have
	}
}

// Larger raises each quantity of sum to that of list.
func Larger(sum, list corev1.ResourceList) {
	for name, q := range list {
		if have, ok := sum[name]; !ok || have.Cmp(q) < 0 {
			sum[name] = q.DeepCopy()
		}
	}
}

func serviceUsage(s *corev1.Service, used corev1.ResourceList) {
	ports := int64(0)
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		ports = int64(len(s.Spec.Ports))
	case corev1.ServiceTypeLoadBalancer:
		used[corev1.ResourceServicesLoadBalancers] = *resource.NewQuantity(1, resource.DecimalSI)
		if s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts {
			ports = int64(len(s.Spec.Ports))
			break
		}
		for i := range s.Spec.Ports {
			if s.Spec.Ports[i].NodePort != 0 {
				ports++
			}
		}
	}
	used[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
}

func claimUsage(c *corev1.PersistentVolumeClaim, used corev1.ResourceList) {
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if have := c.Status.AllocatedResources[corev1.ResourceStorage]; have.Cmp(size) > 0 {
		size = have
	}
	size.RoundUp(0) // to bytes
	used[corev1.ResourceRequestsStorage] = size
	class, said := c.Annotations[corev1.BetaStorageClassAnnotation]
	if !said {
		class = ptr.Deref(c.Spec.StorageClassName, "")
	}
	if class != "" {
		used[corev1.ResourceName(class+classInfix+"requests.storage")] = size
		used[corev1.ResourceName(class+classInfix+"persistentvolumeclaims")] = *resource.NewQuantity(1, resource.DecimalSI)
	}
}

// Resources returns the kinds that count towards any of the names. Towards a
// name of another domain that is no pod's request, nothing counts.
func Resources(hard corev1.ResourceList) []client.Resource {
	var all []client.Resource
	put := func(r client.Resource) {
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	for name := range hard {
		n := string(name)
		if rest, ok := strings.CutPrefix(n, countPrefix); ok {
			r, group, _ := strings.Cut(rest, ".")
			put(client.Resource{Group: group, Resource: r})
			continue
		}
		switch {
		case legacyCount(client.Resource{Resource: n}):
			put(client.Resource{Resource: n})
		case n == string(corev1.ResourceServicesNodePorts), n == string(corev1.ResourceServicesLoadBalancers):
			put(serviceResource)
		case n == string(corev1.ResourceRequestsStorage),
			strings.HasSuffix(n, classInfix+"requests.storage"), strings.HasSuffix(n, classInfix+"persistentvolumeclaims"):
			put(claimResource)
		case !strings.Contains(n, "/"), strings.HasPrefix(n, requestsPrefix):
			put(podResource)
		}
	}
	return all
}

// Counts reports whether the quota counts o: whether its scopes hold for it.
// Scopes are about pods, or VolumeAttributesClass about claims; a quota with one
// counts nothing else.
func Counts(q *corev1.ResourceQuota, o client.Object) bool {
	var reqs []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		reqs = append(reqs, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		reqs = append(reqs, q.Spec.ScopeSelector.MatchExpressions...)
	}
	if len(reqs) == 0 {
		return true
	}
	return !slices.ContainsFunc(reqs, func(r corev1.ScopedResourceSelectorRequirement) bool {
		switch o := o.(type) {
		case *corev1.Pod:
			return !podInScope(o, r)
		case *corev1.PersistentVolumeClaim:
			return !claimInScope(o, r)
		}
		return true
	})
}

// claimInScope looks at all classes of the claim: wanted, in force, and on the
// way from one to the other.
func claimInScope(c *corev1.PersistentVolumeClaim, r corev1.ScopedResourceSelectorRequirement) bool {
	if r.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
		return false
	}
	classes := []string{ptr.Deref(c.Spec.VolumeAttributesClassName, ""), ptr.Deref(c.Status.CurrentVolumeAttributesClassName, "")}
	if m := c.Status.ModifyVolumeStatus; m != nil {
		classes = append(classes, m.TargetVolumeAttributesClassName)
	}
	classes = slices.DeleteFunc(classes, func(name string) bool { return name == "" })
	if len(classes) == 0 {
		return matches("", r)
	}
	return slices.ContainsFunc(classes, func(name string) bool { return matches(name, r) })
}

func podInScope(pod *corev1.Pod, r corev1.ScopedResourceSelectorRequirement) bool {
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
	case corev1.ResourceQuotaScopeNotTerminating:
		return pod.Spec.ActiveDeadlineSeconds == nil
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(pod.Spec.Affinity)
	case corev1.ResourceQuotaScopePriorityClass:
		return matches(pod.Spec.PriorityClassName, r)
	}
	return false
}

func matches(value string, r corev1.ScopedResourceSelectorRequirement) bool {
	switch r.Operator {
	case corev1.ScopeSelectorOpExists:
		return value != ""
	case corev1.ScopeSelectorOpDoesNotExist:
		return value == ""
	case corev1.ScopeSelectorOpIn:
		return slices.Contains(r.Values, value)
	case corev1.ScopeSelectorOpNotIn:
		return !slices.Contains(r.Values, value)
	}
	return false
}

func bestEffort(pod *corev1.Pod) bool {
	requests, limits := PodTotals(&pod.Spec)
	for _, list := range []corev1.ResourceList{requests, limits} {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q := list[name]; !q.IsZero() {
				return false
			}
		}
	}
	return true
}

func crossNamespace(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	if p := a.PodAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, w := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, w := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool {
		return len(t.Namespaces) > 0 || t.NamespaceSelector != nil
	})
}

// Unspecified returns the names in hard that every container of the pod must
// specify and some container does not.
func Unspecified(hard corev1.ResourceList, pod *corev1.PodSpec) []string {
	var missing []string
	for name := range hard {
		n, lists := strings.TrimPrefix(string(name), requestsPrefix), false
		if rest, ok := strings.CutPrefix(n, limitsPrefix); ok {
			n, lists = rest, true
		}
		if n != "cpu" && n != "memory" && n != "ephemeral-storage" && !strings.HasPrefix(n, hugePagesPrefix) {
			continue
		}
		of := func(r *corev1.ResourceRequirements) corev1.ResourceList {
			if lists {
				return r.Limits
			}
			return r.Requests
		}
		if pod.Resources != nil {
			if _, ok := of(pod.Resources)[corev1.ResourceName(n)]; ok {
				continue
			}
		}
		lacks := func(c corev1.Container) bool { _, ok := of(&c.Resources)[corev1.ResourceName(n)]; return !ok }
		if slices.ContainsFunc(pod.Containers, lacks) || slices.ContainsFunc(pod.InitContainers, lacks) {
			missing = append(missing, string(name))
		}
	}
	slices.Sort(missing)
	return missing
}

// Used adds up what the stored objects of q's namespace use of q. visit, when
// not nil, is called with every object counted and may raise its usage.
func Used(ctx context.Context, c client.Client, q *corev1.ResourceQuota, visit func(o client.Object, usage corev1.ResourceList)) (corev1.ResourceList, error) {
	used := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		used[name] = resource.Quantity{Format: resource.DecimalSI}
	}
	for _, r := range Resources(q.Spec.Hard) {
		list, err := c.List(ctx, r, client.ReadOptions{Namespace: q.Namespace, FromCache: true})
		if err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			if !Counts(q, o) {
				continue
			}
			usage := Usage(r, o)
			if visit != nil {
				visit(o, usage)
			}
			AddTo(used, usage)
		}
	}
	return used, nil
}

// AddTo adds those quantities of usage that sum already names.
func AddTo(sum, usage corev1.ResourceList) {
	for name, have := range sum {
		if q, ok := usage[name]; ok {
			have.Add(q)
			sum[name] = have
		}
	}
}
