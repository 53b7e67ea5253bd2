package endpointslice

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

const (
	managedBy = "endpointslice-controller.k8s.io"
	// most endpoints one slice holds, upstream's default.
	most = 100
)

var (
	servicesResource = client.Resource{Resource: "services"}
	podsResource     = client.Resource{Resource: "pods"}
	slicesResource   = client.Resource{Group: discoveryv1.GroupName, Resource: "endpointslices"}
)

// New returns the controller of EndpointSlices.
func New() controller.Controller {
	return controller.Controller{
		Name:    "endpointslice",
		Workers: 5,
		Inputs: []controller.Input{
			{Resource: servicesResource, Keys: controller.Self},
			{Resource: podsResource, Keys: servicesOf},
			{Resource: slicesResource, Keys: func(_ controller.State, o client.Object) []client.Key {
				if name := o.GetLabels()[discoveryv1.LabelServiceName]; name != "" && o.GetLabels()[discoveryv1.LabelManagedBy] == managedBy {
					return []client.Key{{Namespace: o.GetNamespace(), Name: name}}
				}
				return nil
			}},
		},
		Writes: []string{"endpointslices.discovery.k8s.io"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			svc, ok := controller.Get[*corev1.Service](s, key.Namespace, key.Name)
			if !ok || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.DeletionTimestamp != nil {
				return controller.Plan{}, nil
			}
			var p controller.Plan
			for _, family := range svc.Spec.IPFamilies {
				planFamily(&p, s, svc, family)
			}
			return p, nil
		},
	}
}

// servicesOf finds the Services that select a pod.
func servicesOf(s controller.State, pod client.Object) []client.Key {
	var keys []client.Key
	for _, svc := range controller.List[*corev1.Service](s, pod.GetNamespace()) {
		if len(svc.Spec.Selector) > 0 && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.GetLabels())) {
			keys = append(keys, client.KeyOf(svc))
		}
	}
	return keys
}

// selected returns the pods of a Service in the order of their names.
func selected(s controller.State, svc *corev1.Service) []*corev1.Pod {
	sel := labels.SelectorFromSet(svc.Spec.Selector)
	var out []*corev1.Pod
	for _, p := range controller.List[*corev1.Pod](s, svc.Namespace) {
		if sel.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// planFamily plans the slices of one address family.
func planFamily(p *controller.Plan, s controller.State, svc *corev1.Service, family corev1.IPFamily) {
	// Pods whose named ports are at the same numbers share slices.
	type group struct {
		ports     []discoveryv1.EndpointPort
		endpoints map[string]discoveryv1.Endpoint // by the pod's UID
	}
	groups := map[string]*group{}
	var changed time.Time // when what brought this about happened
	for _, pod := range selected(s, svc) {
		address := addressOf(pod, family)
		if address == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		ports := portsOf(svc, pod)
		key := portsKey(ports)
		if groups[key] == nil {
			groups[key] = &group{ports, map[string]discoveryv1.Endpoint{}}
		}
		groups[key].endpoints[string(pod.UID)] = endpointOf(svc, pod, address)
		if c := controller.PodCondition(pod, corev1.PodReady); c != nil && c.LastTransitionTime.After(changed) {
			changed = c.LastTransitionTime.Time
		}
	}
	if changed.Before(svc.CreationTimestamp.Time) {
		changed = svc.CreationTimestamp.Time
	}

	var present []*discoveryv1.EndpointSlice
	for _, es := range controller.List[*discoveryv1.EndpointSlice](s, svc.Namespace) {
		if es.Labels[discoveryv1.LabelServiceName] == svc.Name && es.Labels[discoveryv1.LabelManagedBy] == managedBy &&
			es.AddressType == discoveryv1.AddressType(family) && metav1.IsControlledBy(es, svc) {
			present = append(present, es)
		}
	}
	slices.SortFunc(present, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	if len(groups) == 0 { // one empty slice says that the Service has been seen
		groups[""] = &group{}
	}

	// What a slice already holds stays there, if its ports are still right.
	next := map[*discoveryv1.EndpointSlice]*discoveryv1.EndpointSlice{}
	room := map[string][]*discoveryv1.EndpointSlice{} // copies by ports
	for _, es := range present {
		key := portsKey(es.Ports)
		g := groups[key]
		if g == nil || es.DeletionTimestamp != nil {
			continue
		}
		c := es.DeepCopy()
		c.Endpoints = nil
		for _, ep := range es.Endpoints {
			if ep.TargetRef == nil {
				continue
			}
			if now, ok := g.endpoints[string(ep.TargetRef.UID)]; ok {
				c.Endpoints = append(c.Endpoints, now)
				delete(g.endpoints, string(ep.TargetRef.UID))
			}
		}
		next[es] = c
		room[key] = append(room[key], c)
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		fill := room[key]
		if len(fill) == 0 && (len(g.endpoints) > 0 || key == "") {
			fill = append(fill, newSlice(svc, family, g.ports))
		}
		for _, uid := range slices.SortedFunc(maps.Keys(g.endpoints), func(a, b string) int {
			return cmp.Compare(g.endpoints[a].TargetRef.Name, g.endpoints[b].TargetRef.Name)
		}) {
			if len(fill[len(fill)-1].Endpoints) >= most {
				if i := slices.IndexFunc(fill, func(es *discoveryv1.EndpointSlice) bool { return len(es.Endpoints) < most }); i >= 0 {
					fill[i], fill[len(fill)-1] = fill[len(fill)-1], fill[i]
				} else {
					fill = append(fill, newSlice(svc, family, g.ports))
				}
			}
			last := fill[len(fill)-1]
			last.Endpoints = append(last.Endpoints, g.endpoints[uid])
		}
		for _, es := range fill {
			if es.Name == "" {
				stamp(es, changed)
				p.Add(controller.Create(es))
			}
		}
	}
	keep := 0 // slices that remain; one must
	for _, es := range present {
		if c := next[es]; c != nil && len(c.Endpoints) > 0 {
			keep++
		}
	}
	for _, es := range present {
		c := next[es]
		if c == nil || len(c.Endpoints) == 0 && (keep > 0 || len(groups) > 0 && groups[""] == nil) {
			p.Add(controller.Delete(es))
			continue
		}
		if len(c.Endpoints) == 0 {
			keep++
		}
		c.Labels = labelsOf(svc)
		if !equality.Semantic.DeepEqual(c, es) {
			stamp(c, changed)
			p.Add(controller.Update(c))
		}
	}
}

func newSlice(svc *corev1.Service, family corev1.IPFamily, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, GenerateName: svc.Name + "-",
			Labels:          labelsOf(svc),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: discoveryv1.AddressType(family),
		Ports:       ports,
		Endpoints:   []discoveryv1.Endpoint{},
	}
}

func labelsOf(svc *corev1.Service) map[string]string {
	out := maps.Clone(svc.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[discoveryv1.LabelServiceName], out[discoveryv1.LabelManagedBy] = svc.Name, managedBy
	delete(out, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out[corev1.IsHeadlessService] = ""
	}
	return out
}

// stamp records when the change happened that the slice now tells, from which
// proxies measure how long programming takes.
func stamp(es *discoveryv1.EndpointSlice, at time.Time) {
	if es.Annotations == nil {
		es.Annotations = map[string]string{}
	}
	es.Annotations[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format(time.RFC3339Nano)
}

func endpointOf(svc *corev1.Service, pod *corev1.Pod, address string) discoveryv1.Endpoint {
	serving, terminating := controller.PodReady(pod), pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	ep := discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		ep.NodeName = ptr.To(pod.Spec.NodeName)
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		ep.Hostname = ptr.To(pod.Spec.Hostname)
	}
	return ep
}

func addressOf(pod *corev1.Pod, family corev1.IPFamily) string {
	for _, ip := range pod.Status.PodIPs {
		a, err := netip.ParseAddr(ip.IP)
		if err == nil && (family == corev1.IPv4Protocol) == a.Unmap().Is4() {
			return ip.IP
		}
	}
	return ""
}

// portsOf resolves a Service's target ports on a pod; a named port the pod
// lacks is left out.
func portsOf(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for _, sp := range svc.Spec.Ports {
		n := targetPort(sp, pod)
		if n == 0 {
			continue
		}
		out = append(out, discoveryv1.EndpointPort{
			Name: ptr.To(sp.Name), Port: &n, Protocol: ptr.To(sp.Protocol), AppProtocol: sp.AppProtocol,
		})
	}
	return out
}

func targetPort(sp corev1.ServicePort, pod *corev1.Pod) int32 {
	name := sp.TargetPort.StrVal
	if name == "" {
		if sp.TargetPort.IntVal != 0 {
			return sp.TargetPort.IntVal
		}
		return sp.Port
	}
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, cp := range c.Ports {
			if cp.Name == name && cp.Protocol == sp.Protocol {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

func portsKey(ports []discoveryv1.EndpointPort) string {
	var b strings.Builder
	for _, p := range ports {
		b.WriteString(ptr.Deref(p.Name, ""))
		b.WriteByte('=')
		b.WriteString(string(ptr.Deref(p.Protocol, "")))
		b.WriteByte(':')
		b.WriteString(itoa(ptr.Deref(p.Port, 0)))
		b.WriteByte('/')
		b.WriteString(ptr.Deref(p.AppProtocol, ""))
		b.WriteByte(',')
	}
	return b.String()
}
