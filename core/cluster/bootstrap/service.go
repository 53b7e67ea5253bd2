package bootstrap

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/client"
)

const kubernetesName = "kubernetes"

// kubernetesService gives pods the API server under kubernetes.default. Its
// endpoints are written here because the Service has no selector.
func kubernetesService(ctx context.Context, c client.Client, cfg Config) error {
	ports := []corev1.ServicePort{{
		Name: "https", Protocol: corev1.ProtocolTCP, Port: int32(cfg.ServicePort), TargetPort: intstr.FromInt(cfg.Port),
	}}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: kubernetesName,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: cfg.ServiceAddress.String(), Ports: ports,
			SessionAffinity: corev1.ServiceAffinityNone,
		},
	}
	err := ensure(ctx, c, svc, func(have *corev1.Service) bool {
		if equality.Semantic.DeepEqual(have.Spec.Ports, ports) {
			return false
		}
		have.Spec.Ports = ports
		return true
	})
	if err != nil || !cfg.AdvertiseAddress.IsValid() {
		return err
	}
	if err := kubernetesEndpoints(ctx, c, cfg); err != nil {
		return err
	}
	return kubernetesSlice(ctx, c, cfg)
}

// serviceCIDR shows the ranges Services get their addresses from under the name
// that upstream gives to the configured ones. They cannot change in a running
// cluster, so what is there under that name stays.
func serviceCIDR(ctx context.Context, c client.Client, cfg Config) error {
	want := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: kubernetesName}}
	for _, p := range cfg.ServiceCIDRs {
		want.Spec.CIDRs = append(want.Spec.CIDRs, p.Masked().String())
	}
	if err := ensure(ctx, c, want, nil); err != nil {
		return err
	}
	_, err := client.Modify(ctx, c, "", kubernetesName, "status", func(have *networkingv1.ServiceCIDR) (bool, error) {
		return apimeta.SetStatusCondition(&have.Status.Conditions, metav1.Condition{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Message: "Kubernetes default Service CIDR is ready",
		}), nil
	})
	if err != nil {
		return fmt.Errorf("cannot mark ServiceCIDR %s ready: %w", kubernetesName, err)
	}
	return nil
}

func kubernetesEndpoints(ctx context.Context, c client.Client, cfg Config) error {
	want := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: kubernetesName,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: cfg.AdvertiseAddress.String()}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: int32(cfg.Port), Protocol: corev1.ProtocolTCP}},
		}},
	}
	return ensure(ctx, c, want, func(have *corev1.Endpoints) bool {
		if equality.Semantic.DeepEqual(have.Subsets, want.Subsets) && have.Labels[discoveryv1.LabelSkipMirror] == "true" {
			return false
		}
		have.Subsets = want.Subsets
		have.Labels = with(have.Labels, want.Labels)
		return true
	})
}

func kubernetesSlice(ctx context.Context, c client.Client, cfg Config) error {
	family := discoveryv1.AddressTypeIPv4
	if cfg.AdvertiseAddress.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	name, port, protocol, ready := "https", int32(cfg.Port), corev1.ProtocolTCP, true
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: kubernetesName,
			Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesName},
		},
		AddressType: family,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{cfg.AdvertiseAddress.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	return ensure(ctx, c, want, func(have *discoveryv1.EndpointSlice) bool {
		if equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(have.Ports, want.Ports) &&
			have.Labels[discoveryv1.LabelServiceName] == kubernetesName {
			return false
		}
		have.Endpoints, have.Ports = want.Endpoints, want.Ports
		have.Labels = with(have.Labels, want.Labels)
		return true
	})
}

// with returns a map that has all of have and of want.
func with(have, want map[string]string) map[string]string {
	if have == nil {
		have = map[string]string{}
	}
	for k, v := range want {
		have[k] = v
	}
	return have
}
