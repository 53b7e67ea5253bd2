package kind

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func endpointSliceKind(gv schema.GroupVersion) *Kind {
	k := define[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](gv, "endpointslices")
	k.Default = do1(func(e *discoveryv1.EndpointSlice) {
		for i := range e.Ports {
			orPointer(&e.Ports[i].Name, "")
			orPointer(&e.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	})
	k.PrepareCreate = do1(func(e *discoveryv1.EndpointSlice) {
		dropTopology(e)
		e.Generation = 1
	})
	k.PrepareUpdate = do2(func(e, old *discoveryv1.EndpointSlice) {
		e.Generation = old.Generation
		if !apiequality.Semantic.DeepEqual(e.Endpoints, old.Endpoints) || !apiequality.Semantic.DeepEqual(e.Ports, old.Ports) ||
			e.AddressType != old.AddressType || !apiequality.Semantic.DeepEqual(e.Labels, old.Labels) {
			e.Generation++
		}
		dropTopology(e)
	})
	k.Validate = check1(validateEndpointSlice)
	k.ValidateUpdate = check2(func(e, old *discoveryv1.EndpointSlice) field.ErrorList {
		return append(validateEndpointSlice(e), unchanged(field.NewPath("addressType"), e.AddressType, old.AddressType)...)
	})
	k.Warnings = func(o Object) []string {
		if o.(*discoveryv1.EndpointSlice).AddressType == discoveryv1.AddressTypeFQDN {
			return []string{"spec.addressType: FQDN endpoints are deprecated"}
		}
		return nil
	}
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	k.Columns = named[*discoveryv1.EndpointSlice]().
		text("AddressType", doc["addressType"], func(e *discoveryv1.EndpointSlice) string { return string(e.AddressType) }).
		text("Ports", doc["ports"], slicePorts).
		text("Endpoints", doc["endpoints"], sliceAddresses).
		age()
	return k
}

// dropTopology forgets what v1 can carry but does not keep, and with the empty
// lists the difference to none.
func dropTopology(e *discoveryv1.EndpointSlice) {
	for i := range e.Endpoints {
		e.Endpoints[i].DeprecatedTopology = nil
	}
	if len(e.Endpoints) == 0 {
		e.Endpoints = nil
	}
	if len(e.Ports) == 0 {
		e.Ports = nil
	}
}

const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 20000
	maxSliceAddresses = 100
)

func validateEndpointSlice(e *discoveryv1.EndpointSlice) field.ErrorList {
	errs := oneOf(field.NewPath("addressType"), e.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	p := field.NewPath("endpoints")
	if len(e.Endpoints) > maxSliceEndpoints {
		return append(errs, field.TooMany(p, len(e.Endpoints), maxSliceEndpoints))
	}
	for i := range e.Endpoints {
		errs = append(errs, validateSliceEndpoint(p.Index(i), &e.Endpoints[i], e.AddressType)...)
	}
	p = field.NewPath("ports")
	if len(e.Ports) > maxSlicePorts {
		return append(errs, field.TooMany(p, len(e.Ports), maxSlicePorts))
	}
	names := map[string]bool{}
	for i, port := range e.Ports {
		at := p.Index(i)
		name := deref(port.Name)
		if name != "" {
			errs = append(errs, invalids(at.Child("name"), name, validation.IsDNS1123Label(name))...)
		}
		if names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
		}
		names[name] = true
		errs = append(errs, supported(at.Child("protocol"), deref(port.Protocol), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
		if port.AppProtocol != nil {
			errs = append(errs, invalids(at.Child("appProtocol"), *port.AppProtocol, validation.IsQualifiedName(*port.AppProtocol))...)
		}
	}
	return errs
}

func validateSliceEndpoint(p *field.Path, ep *discoveryv1.Endpoint, kind discoveryv1.AddressType) field.ErrorList {
	at := p.Child("addresses")
	var errs field.ErrorList
	switch {
	case len(ep.Addresses) == 0:
		errs = append(errs, field.Required(at, "must contain at least 1 address"))
	case len(ep.Addresses) > maxSliceAddresses:
		errs = append(errs, field.TooMany(at, len(ep.Addresses), maxSliceAddresses))
	}
	for i, a := range ep.Addresses {
		switch kind {
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			bad := validation.IsValidIPForLegacyField(at.Index(i), a, true, nil)
			if len(bad) == 0 {
				if string(familyOf(a)) != string(kind) {
					bad = append(bad, field.Invalid(at, a, fmt.Sprintf("must be an %s address", kind)))
				}
				bad = append(bad, routable(at.Index(i), a)...)
			}
			errs = append(errs, bad...)
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, validation.IsFullyQualifiedDomainName(at.Index(i), a)...)
		}
	}
	if ep.NodeName != nil {
		errs = append(errs, invalids(p.Child("nodeName"), *ep.NodeName, subdomain(*ep.NodeName))...)
	}
	if ep.Hostname != nil {
		errs = append(errs, invalids(p.Child("hostname"), *ep.Hostname, validation.IsDNS1123Label(*ep.Hostname))...)
	}
	if ep.Hints != nil {
		errs = append(errs, validateHints(p.Child("hints"), ep.Hints)...)
	}
	return errs
}

// maxHints is the number of zones, and of nodes, that an endpoint may be meant for.
const maxHints = 8

func validateHints(p *field.Path, h *discoveryv1.EndpointHints) field.ErrorList {
	var errs field.ErrorList
	if len(h.ForZones) > maxHints {
		errs = append(errs, field.TooMany(p.Child("forZones"), len(h.ForZones), maxHints))
	}
	seen := map[string]bool{}
	for i, z := range h.ForZones {
		at := p.Child("forZones").Index(i).Child("name")
		if seen[z.Name] {
			errs = append(errs, field.Duplicate(at, z.Name))
			continue
		}
		seen[z.Name] = true
		errs = append(errs, invalids(at, z.Name, validation.IsValidLabelValue(z.Name))...)
	}
	if len(h.ForNodes) > maxHints {
		errs = append(errs, field.TooMany(p.Child("forNodes"), len(h.ForNodes), maxHints))
	}
	seen = map[string]bool{}
	for i, n := range h.ForNodes {
		at := p.Child("forNodes").Index(i).Child("name")
		if seen[n.Name] {
			errs = append(errs, field.Duplicate(at, n.Name))
			continue
		}
		seen[n.Name] = true
		errs = append(errs, invalids(at, n.Name, subdomain(n.Name))...)
	}
	return errs
}

func slicePorts(e *discoveryv1.EndpointSlice) string {
	if len(e.Ports) == 0 {
		return "<unset>"
	}
	var list []string
	for i, p := range e.Ports {
		if i == 3 {
			return orNone(list...) + fmt.Sprintf(" + %d more...", len(e.Ports)-i)
		}
		switch {
		case p.Port != nil:
			list = append(list, strconv.Itoa(int(*p.Port)))
		case deref(p.Name) != "":
			list = append(list, *p.Name)
		default:
			list = append(list, "*")
		}
	}
	return orNone(list...)
}

func sliceAddresses(e *discoveryv1.EndpointSlice) string {
	if len(e.Endpoints) == 0 {
		return "<unset>"
	}
	var list []string
	more := 0
	for _, ep := range e.Endpoints {
		for _, a := range ep.Addresses {
			if len(list) < 3 {
				list = append(list, a)
			} else {
				more++
			}
		}
	}
	out := orNone(list...)
	if more > 0 {
		out += fmt.Sprintf(" + %d more...", more)
	}
	return out
}
