package kind

import (
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func retiredNetworkPolicies() []Version {
	return []Version{retiredVersion[extensionsv1beta1.NetworkPolicy, extensionsv1beta1.NetworkPolicyList](
		extensionsv1beta1.SchemeGroupVersion, networkingv1.SchemeGroupVersion,
		fixes[*extensionsv1beta1.NetworkPolicy, *networkingv1.NetworkPolicy]{})}
}

// retiredIngresses named a backend by serviceName and servicePort.
func retiredIngresses() []Version {
	type beta = networkingv1beta1.Ingress
	type ext = extensionsv1beta1.Ingress
	return []Version{
		retiredVersion[beta, networkingv1beta1.IngressList](networkingv1beta1.SchemeGroupVersion, networkingv1.SchemeGroupVersion,
			fixes[*beta, *networkingv1.Ingress]{toHub: ingressToHub, fromHub: ingressFromHub}),
		retiredVersion[ext, extensionsv1beta1.IngressList](extensionsv1beta1.SchemeGroupVersion, networkingv1.SchemeGroupVersion,
			fixes[*ext, *networkingv1.Ingress]{
				// extensions' Ingress is networking/v1beta1's, letter for letter.
				toHub: func(in *ext, out *networkingv1.Ingress) {
					var same beta
					if err := throughJSON(in, &same); err == nil {
						ingressToHub(&same, out)
					}
				},
				fromHub: func(in *networkingv1.Ingress, out *ext) {
					var same beta
					if err := throughJSON(out, &same); err != nil {
						return
					}
					ingressFromHub(in, &same)
					var spec extensionsv1beta1.IngressSpec
					if err := throughJSON(&same.Spec, &spec); err == nil {
						out.Spec = spec
					}
				},
			}),
	}
}

func backendToHub(b *networkingv1beta1.IngressBackend) networkingv1.IngressBackend {
	out := networkingv1.IngressBackend{Resource: b.Resource}
	if b.ServiceName == "" && b.ServicePort == (intstr.IntOrString{}) {
		return out
	}
	out.Service = &networkingv1.IngressServiceBackend{Name: b.ServiceName}
	if b.ServicePort.Type == intstr.String {
		out.Service.Port.Name = b.ServicePort.StrVal
	} else {
		out.Service.Port.Number = b.ServicePort.IntVal
	}
	return out
}

func backendFromHub(b *networkingv1.IngressBackend) networkingv1beta1.IngressBackend {
	out := networkingv1beta1.IngressBackend{Resource: b.Resource}
	if b.Service != nil {
		out.ServiceName = b.Service.Name
		out.ServicePort = intstr.FromInt32(b.Service.Port.Number)
		if b.Service.Port.Name != "" {
			out.ServicePort = intstr.FromString(b.Service.Port.Name)
		}
	}
	return out
}

func ingressToHub(in *networkingv1beta1.Ingress, out *networkingv1.Ingress) {
	if in.Spec.Backend != nil {
		b := backendToHub(in.Spec.Backend)
		out.Spec.DefaultBackend = &b
	}
	for i := range in.Spec.Rules {
		if in.Spec.Rules[i].HTTP == nil {
			continue
		}
		for j := range in.Spec.Rules[i].HTTP.Paths {
			to := &out.Spec.Rules[i].HTTP.Paths[j]
			to.Backend = backendToHub(&in.Spec.Rules[i].HTTP.Paths[j].Backend)
			orPointer(&to.PathType, networkingv1.PathTypeImplementationSpecific)
		}
	}
}

func ingressFromHub(in *networkingv1.Ingress, out *networkingv1beta1.Ingress) {
	if in.Spec.DefaultBackend != nil {
		b := backendFromHub(in.Spec.DefaultBackend)
		out.Spec.Backend = &b
	}
	for i := range in.Spec.Rules {
		if in.Spec.Rules[i].HTTP == nil {
			continue
		}
		for j := range in.Spec.Rules[i].HTTP.Paths {
			out.Spec.Rules[i].HTTP.Paths[j].Backend = backendFromHub(&in.Spec.Rules[i].HTTP.Paths[j].Backend)
		}
	}
}
