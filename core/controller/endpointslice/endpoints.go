package endpointslice

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

const (
	endpointsManagedBy = "endpoints.kubernetes.io/managed-by"
	endpointsManager   = "endpoint-controller"
	// mostAddresses of an Endpoints object; more are cut off and said so by
	// the annotation, as upstream does.
	mostAddresses = 1000
)

// NewEndpoints returns the controller of Endpoints.
func NewEndpoints() controller.Controller {
	return controller.Controller{
		Name: "endpoint",
		Inputs: []controller.Input{
			{Resource: servicesResource, Keys: controller.Self},
			{Resource: podsResource, Keys: servicesOf},
			{Resource: client.Resource{Resource: "endpoints"}, Keys: controller.Self},
		},
		Writes: []string{"endpoints"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			return planEndpoints(s, key), nil
		},
	}
}

func planEndpoints(s controller.State, key client.Key) (p controller.Plan) {
	have, exists := controller.Get[*corev1.Endpoints](s, key.Namespace, key.Name)
	svc, ok := controller.Get[*corev1.Service](s, key.Namespace, key.Name)
	if !ok {
		// Endpoints have no owner reference upstream either: this
		// controller removes what it made.
		if exists && have.Labels[endpointsManagedBy] == endpointsManager {
			p.Add(controller.Delete(have))
		}
		return p
	}
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return p
	}
	want := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	if exists {
		want = have.DeepCopy()
	}
	want.Labels = maps.Clone(svc.Labels)
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	want.Labels[endpointsManagedBy] = endpointsManager
	delete(want.Labels, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		want.Labels[corev1.IsHeadlessService] = ""
	}
	var cut bool
	want.Subsets, cut = subsets(s, svc)
	delete(want.Annotations, corev1.EndpointsOverCapacity)
	if cut {
		if want.Annotations == nil {
			want.Annotations = map[string]string{}
		}
		want.Annotations[corev1.EndpointsOverCapacity] = "truncated"
	}
	switch {
	case !exists:
		p.Add(controller.Create(want))
	case !equality.Semantic.DeepEqual(want, have):
		p.Add(controller.Update(want))
	}
	return p
}

// subsets groups addresses by ports, ready and not ready ones apart.
func subsets(s controller.State, svc *corev1.Service) (out []corev1.EndpointSubset, cut bool) {
	if len(svc.Spec.IPFamilies) == 0 {
		return nil, false
	}
	byPorts := map[string]*corev1.EndpointSubset{}
	n := 0
	for _, pod := range selected(s, svc) {
		address := addressOf(pod, svc.Spec.IPFamilies[0])
		if address == "" || !controller.PodActive(pod) && !(svc.Spec.PublishNotReadyAddresses && pod.DeletionTimestamp != nil) {
			continue
		}
		if n++; n > mostAddresses {
			return sorted(byPorts), true
		}
		ports := portsOf(svc, pod)
		key := portsKey(ports)
		sub := byPorts[key]
		if sub == nil {
			sub = &corev1.EndpointSubset{}
			for _, ep := range ports {
				sub.Ports = append(sub.Ports, corev1.EndpointPort{Name: *ep.Name, Port: *ep.Port, Protocol: *ep.Protocol, AppProtocol: ep.AppProtocol})
			}
			byPorts[key] = sub
		}
		a := corev1.EndpointAddress{
			IP:        address,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}
		if pod.Spec.NodeName != "" {
			a.NodeName = ptr.To(pod.Spec.NodeName)
		}
		if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
			a.Hostname = pod.Spec.Hostname
		}
		if svc.Spec.PublishNotReadyAddresses || controller.PodReady(pod) {
			sub.Addresses = append(sub.Addresses, a)
		} else {
			sub.NotReadyAddresses = append(sub.NotReadyAddresses, a)
		}
	}
	return sorted(byPorts), false
}

func sorted(byPorts map[string]*corev1.EndpointSubset) (out []corev1.EndpointSubset) {
	byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		sub := *byPorts[key]
		slices.SortFunc(sub.Addresses, byIP)
		slices.SortFunc(sub.NotReadyAddresses, byIP)
		out = append(out, sub)
	}
	return out
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
