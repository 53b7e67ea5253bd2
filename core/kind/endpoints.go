package kind

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func endpointsKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Endpoints, corev1.EndpointsList](gv, "endpoints", "ep")
	k.Prefix = "services/endpoints"
	k.Default = do1(func(e *corev1.Endpoints) {
		for i := range e.Subsets {
			for j := range e.Subsets[i].Ports {
				orElse(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	})
	k.Validate = check1(validateEndpoints)
	k.ValidateUpdate = check2(func(e, _ *corev1.Endpoints) field.ErrorList { return validateEndpoints(e) })
	k.Warnings = func(Object) []string {
		return []string{"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
	}
	k.Columns = named[*corev1.Endpoints]().
		text("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"], endpointsText).
		age()
	return k
}

func validateEndpoints(e *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		s, p := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(p, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateEndpointAddress(p.Child("addresses").Index(j), &s.Addresses[j])...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(p.Child("notReadyAddresses").Index(j), &s.NotReadyAddresses[j])...)
		}
		for j, port := range s.Ports {
			at := p.Child("ports").Index(j)
			if port.Name == "" && len(s.Ports) > 1 {
				errs = append(errs, field.Required(at.Child("name"), ""))
			} else if port.Name != "" {
				errs = append(errs, invalids(at.Child("name"), port.Name, validation.IsDNS1123Label(port.Name))...)
			}
			errs = append(errs, portNumber(at.Child("port"), port.Port)...)
			errs = append(errs, validateProtocol(at.Child("protocol"), port.Protocol)...)
			if port.AppProtocol != nil {
				errs = append(errs, invalids(at.Child("appProtocol"), *port.AppProtocol, validation.IsQualifiedName(*port.AppProtocol))...)
			}
		}
	}
	return errs
}

func validateEndpointAddress(p *field.Path, a *corev1.EndpointAddress) field.ErrorList {
	errs := validation.IsValidIPForLegacyField(p.Child("ip"), a.IP, true, nil)
	if a.Hostname != "" {
		errs = append(errs, invalids(p.Child("hostname"), a.Hostname, validation.IsDNS1123Label(a.Hostname))...)
	}
	if a.NodeName != nil {
		errs = append(errs, invalids(p.Child("nodeName"), *a.NodeName, subdomain(*a.NodeName))...)
	}
	errs = append(errs, routable(p.Child("ip"), a.IP)...)
	return errs
}

// endpointsText shows the first three addresses and how many there are beyond.
func endpointsText(e *corev1.Endpoints) string {
	const shown = 3
	var list []string
	total := 0
	add := func(s string) {
		if total++; total <= shown {
			list = append(list, s)
		}
	}
	if len(e.Subsets) == 0 {
		return "<none>"
	}
	for _, s := range e.Subsets {
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				add(a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				add(net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	out := strings.Join(list, ",")
	if total > shown {
		out += fmt.Sprintf(" + %d more...", total-shown)
	}
	return out
}
