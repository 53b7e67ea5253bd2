package endpointslice

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/telemetry"
)

const (
	mirrorManagedBy = "endpointslicemirroring-controller.k8s.io"
	// mostMirrored addresses of equal ports are mirrored: what one slice holds,
	// and upstream's default.
	mostMirrored = 1000
	// leaderKey marks Endpoints that are an old way of electing a leader.
	leaderKey = "control-plane.alpha.kubernetes.io/leader"
)

// NewMirroring returns the controller that turns the Endpoints people write for
// Services without a selector into EndpointSlices, which proxies read.
func NewMirroring() controller.Controller {
	return controller.Controller{
		Name: "endpointslicemirroring",
		Inputs: []controller.Input{
			{Resource: client.Resource{Resource: "endpoints"}, Keys: controller.Self},
			{Resource: servicesResource, Keys: controller.Self},
			{Resource: slicesResource, Keys: func(_ controller.State, o client.Object) []client.Key {
				if name := o.GetLabels()[discoveryv1.LabelServiceName]; name != "" && o.GetLabels()[discoveryv1.LabelManagedBy] == mirrorManagedBy {
					return []client.Key{{Namespace: o.GetNamespace(), Name: name}}
				}
				return nil
			}},
		},
		Writes: []string{"endpointslices.discovery.k8s.io of endpoints"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			return planMirror(s, key), nil
		},
	}
}

func planMirror(s controller.State, key client.Key) (p controller.Plan) {
	var present []*discoveryv1.EndpointSlice
	for _, es := range controller.List[*discoveryv1.EndpointSlice](s, key.Namespace) {
		if es.Labels[discoveryv1.LabelServiceName] == key.Name && es.Labels[discoveryv1.LabelManagedBy] == mirrorManagedBy {
			present = append(present, es)
		}
	}
	slices.SortFunc(present, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	want := map[string]*discoveryv1.EndpointSlice{} // by address type and ports
	if ep, ok := mirrored(s, key); ok {
		want = mirrors(ep)
	}
	for _, es := range present {
		next := want[mirrorKey(es)]
		if next == nil || es.DeletionTimestamp != nil {
			p.Add(controller.Delete(es))
			continue
		}
		delete(want, mirrorKey(es))
		c := es.DeepCopy()
		c.Labels, c.OwnerReferences, c.Endpoints = next.Labels, next.OwnerReferences, next.Endpoints
		c.Annotations = maps.Clone(next.Annotations)
		if at, ok := es.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
			c.Annotations[corev1.EndpointsLastChangeTriggerTime] = at
		}
		if trace, ok := es.Annotations[telemetry.TraceAnnotation]; ok {
			c.Annotations[telemetry.TraceAnnotation] = trace
		}
		if !equality.Semantic.DeepEqual(c, es) {
			stamp(c, s.Now())
			p.Add(controller.Update(c))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		stamp(want[k], s.Now())
		p.Add(controller.Create(want[k]))
	}
	return p
}

// mirrored returns the Endpoints of that name if they are to be mirrored.
func mirrored(s controller.State, key client.Key) (*corev1.Endpoints, bool) {
	ep, ok := controller.Get[*corev1.Endpoints](s, key.Namespace, key.Name)
	if !ok || ep.DeletionTimestamp != nil || ep.Labels[discoveryv1.LabelSkipMirror] == "true" || ep.Annotations[leaderKey] != "" {
		return nil, false
	}
	svc, ok := controller.Get[*corev1.Service](s, key.Namespace, key.Name)
	return ep, ok && svc.DeletionTimestamp == nil && len(svc.Spec.Selector) == 0
}

// mirrors turns Endpoints into slices, one for each address type and set of ports.
func mirrors(ep *corev1.Endpoints) map[string]*discoveryv1.EndpointSlice {
	out := map[string]*discoveryv1.EndpointSlice{}
	for _, sub := range ep.Subsets {
		ports := []discoveryv1.EndpointPort{}
		for _, p := range sub.Ports {
			ports = append(ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol})
		}
		put := func(a corev1.EndpointAddress, ready bool) {
			ip, err := netip.ParseAddr(a.IP)
			if err != nil {
				return // validation refuses such addresses
			}
			es := mirrorOf(ep, ip, ports)
			if have := out[mirrorKey(es)]; have != nil {
				es = have
			} else {
				out[mirrorKey(es)] = es
			}
			if len(es.Endpoints) == mostMirrored {
				return
			}
			e := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName}
			if a.Hostname != "" {
				e.Hostname = ptr.To(a.Hostname)
			}
			es.Endpoints = append(es.Endpoints, e)
		}
		for _, a := range sub.Addresses {
			put(a, true)
		}
		for _, a := range sub.NotReadyAddresses {
			put(a, false)
		}
	}
	return out
}

// mirrorOf is a slice without endpoints for addresses of ip's type.
func mirrorOf(ep *corev1.Endpoints, ip netip.Addr, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	family := discoveryv1.AddressTypeIPv4
	if ip.Unmap().Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	labels, annotations := maps.Clone(ep.Labels), maps.Clone(ep.Annotations)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = ep.Name, mirrorManagedBy
	if annotations == nil {
		annotations = map[string]string{}
	}
	for _, own := range []string{corev1.LastAppliedConfigAnnotation, corev1.EndpointsLastChangeTriggerTime, telemetry.TraceAnnotation} {
		delete(annotations, own)
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ep.Namespace, GenerateName: ep.Name + "-", Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ep, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family, Ports: ports,
	}
}

func mirrorKey(es *discoveryv1.EndpointSlice) string {
	return string(es.AddressType) + " " + portsKey(es.Ports)
}
