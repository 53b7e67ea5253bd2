package kind

import (
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const ingressClassAnnotation = "kubernetes.io/ingress.class"

func ingressKind(gv schema.GroupVersion) *Kind {
	k := define[networkingv1.Ingress, networkingv1.IngressList](gv, "ingresses", "ing")
	k.Prefix = "ingress"
	k.PrepareCreate = do1(func(i *networkingv1.Ingress) {
		i.Status = networkingv1.IngressStatus{}
		i.Generation = 1
	})
	k.PrepareUpdate = do2(func(i, old *networkingv1.Ingress) {
		i.Status = *old.Status.DeepCopy()
		raise(i, old, &i.Spec, &old.Spec)
	})
	k.Validate = check1(func(i *networkingv1.Ingress) field.ErrorList {
		errs := validateIngress(i)
		if _, ok := i.Annotations[ingressClassAnnotation]; ok && i.Spec.IngressClassName != nil {
			errs = append(errs, field.Invalid(field.NewPath("annotations").Child(ingressClassAnnotation), i.Annotations[ingressClassAnnotation],
				"can not be set when the class field is also set"))
		}
		return errs
	})
	k.ValidateUpdate = check2(func(i, _ *networkingv1.Ingress) field.ErrorList { return validateIngress(i) })
	k.Warnings = warn1(func(i *networkingv1.Ingress) []string {
		if _, ok := i.Annotations[ingressClassAnnotation]; ok {
			return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", ingressClassAnnotation)}
		}
		return nil
	})
	k.WarningsOnUpdate = func(_, _ Object) []string { return nil }
	k.Columns = ingressColumns()
	k.Subresources = []Subresource{status(func(i, old *networkingv1.Ingress) {
		i.Spec = *old.Spec.DeepCopy()
		i.Generation = old.Generation
	}, validateIngressStatus)}
	return k
}

func validateIngress(i *networkingv1.Ingress) field.ErrorList {
	p, s := field.NewPath("spec"), &i.Spec
	var errs field.ErrorList
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		errs = append(errs, field.Invalid(p, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		errs = append(errs, validateIngressBackend(p.Child("defaultBackend"), s.DefaultBackend)...)
	}
	for j := range s.Rules {
		errs = append(errs, validateIngressRule(p.Child("rules").Index(j), &s.Rules[j])...)
	}
	for j, tls := range s.TLS {
		for h, host := range tls.Hosts {
			at := p.Child("tls").Index(j).Child("hosts").Index(h)
			check := validation.IsDNS1123Subdomain
			if strings.Contains(host, "*") {
				check = validation.IsWildcardDNS1123Subdomain
			}
			errs = append(errs, invalids(at, host, check(host))...)
		}
		if tls.SecretName != "" {
			errs = append(errs, invalids(p.Child("tls").Index(j).Child("secretName"), tls.SecretName, subdomain(tls.SecretName))...)
		}
	}
	if s.IngressClassName != nil {
		errs = append(errs, invalids(p.Child("ingressClassName"), *s.IngressClassName, subdomain(*s.IngressClassName))...)
	}
	return errs
}

func validateIngressRule(p *field.Path, r *networkingv1.IngressRule) field.ErrorList {
	var errs field.ErrorList
	if r.Host != "" {
		check := validation.IsDNS1123Subdomain
		if strings.Contains(r.Host, "*") {
			check = validation.IsWildcardDNS1123Subdomain
		}
		if isIP(r.Host) {
			errs = append(errs, field.Invalid(p.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		}
		errs = append(errs, invalids(p.Child("host"), r.Host, check(r.Host))...)
	}
	if r.HTTP == nil {
		return errs
	}
	if len(r.HTTP.Paths) == 0 {
		return append(errs, field.Required(p.Child("http", "paths"), ""))
	}
	for i := range r.HTTP.Paths {
		errs = append(errs, validateIngressPath(p.Child("http", "paths").Index(i), &r.HTTP.Paths[i])...)
	}
	return errs
}

func isIP(s string) bool { return len(validation.IsValidIP(field.NewPath(""), s)) == 0 }

func validateIngressPath(p *field.Path, one *networkingv1.HTTPIngressPath) field.ErrorList {
	if one.PathType == nil {
		return field.ErrorList{field.Required(p.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	switch *one.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(one.Path, "/") {
			errs = append(errs, field.Invalid(p.Child("path"), one.Path, "must be an absolute path"))
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(one.Path, bad) {
				errs = append(errs, field.Invalid(p.Child("path"), one.Path, fmt.Sprintf("must not contain '%s'", bad)))
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(one.Path, bad) {
				errs = append(errs, field.Invalid(p.Child("path"), one.Path, fmt.Sprintf("cannot end with '%s'", bad)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if one.Path != "" && !strings.HasPrefix(one.Path, "/") {
			errs = append(errs, field.Invalid(p.Child("path"), one.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(p.Child("pathType"), *one.PathType, []networkingv1.PathType{
			networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix,
		}))
	}
	return append(errs, validateIngressBackend(p.Child("backend"), &one.Backend)...)
}

func validateIngressBackend(p *field.Path, b *networkingv1.IngressBackend) field.ErrorList {
	switch {
	case b.Resource != nil && b.Service != nil:
		return field.ErrorList{field.Invalid(p, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return validateReference(p.Child("resource"), b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name)
	case b.Service == nil:
		return field.ErrorList{field.Invalid(p, "", "resource or service backend is required")}
	}
	errs := required(p.Child("service", "name"), b.Service.Name, validation.IsDNS1123Label)
	port := b.Service.Port
	at := p.Child("service", "port")
	switch {
	case port.Name != "" && port.Number != 0:
		errs = append(errs, field.Invalid(p, "", "cannot set both port name & port number"))
	case port.Name != "":
		errs = append(errs, invalids(at.Child("name"), port.Name, validation.IsValidPortName(port.Name))...)
	case port.Number != 0:
		errs = append(errs, portNumber(at.Child("number"), port.Number)...)
	default:
		errs = append(errs, field.Required(p, "port name or number is required"))
	}
	return errs
}

// validateReference checks a reference to an object of any kind.
func validateReference(p *field.Path, group *string, kind, name string) field.ErrorList {
	var errs field.ErrorList
	if group != nil {
		errs = append(errs, invalids(p.Child("apiGroup"), *group, validation.IsDNS1123Subdomain(*group))...)
	}
	errs = append(errs, required(p.Child("kind"), kind, path.IsValidPathSegmentName)...)
	return append(errs, required(p.Child("name"), name, path.IsValidPathSegmentName)...)
}

func validateIngressStatus(i, _ *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	for j, in := range i.Status.LoadBalancer.Ingress {
		p := field.NewPath("status", "loadBalancer", "ingress").Index(j)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(p.Child("ip"), in.IP, true, nil)...)
		}
		if in.Hostname != "" {
			errs = append(errs, invalids(p.Child("hostname"), in.Hostname, validation.IsDNS1123Subdomain(in.Hostname))...)
		}
	}
	return errs
}

func ingressColumns() []Column {
	return named[*networkingv1.Ingress]().
		text("Class", "The name of the IngressClass resource that should be used for additional configuration", func(i *networkingv1.Ingress) string {
			if i.Spec.IngressClassName != nil {
				return *i.Spec.IngressClassName
			}
			return "<none>"
		}).
		text("Hosts", "Hosts that incoming requests are matched against before the ingress rule", func(i *networkingv1.Ingress) string {
			var hosts []string
			for _, r := range i.Spec.Rules {
				if r.Host != "" {
					hosts = append(hosts, r.Host)
				}
			}
			switch {
			case len(hosts) == 0:
				return "*"
			case len(hosts) > 3:
				return fmt.Sprintf("%s + %d more...", strings.Join(hosts[:3], ","), len(hosts)-3)
			}
			return strings.Join(hosts, ",")
		}).
		text("Address", "Address is a list containing ingress points for the load-balancer", func(i *networkingv1.Ingress) string {
			var out []string
			for _, in := range i.Status.LoadBalancer.Ingress {
				if in.IP != "" {
					out = append(out, in.IP)
				} else if in.Hostname != "" {
					out = append(out, in.Hostname)
				}
			}
			return strings.Join(out, ",")
		}).
		text("Ports", "Ports of TLS configurations that open", func(i *networkingv1.Ingress) string {
			if len(i.Spec.TLS) > 0 {
				return "80, 443"
			}
			return "80"
		}).
		age()
}

func ingressClassKind(gv schema.GroupVersion) *Kind {
	k := define[networkingv1.IngressClass, networkingv1.IngressClassList](gv, "ingressclasses").inCluster()
	k.Default = do1(func(c *networkingv1.IngressClass) {
		if c.Spec.Parameters != nil {
			orPointer(&c.Spec.Parameters.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
		}
	})
	k.PrepareCreate = do1(func(c *networkingv1.IngressClass) { c.Generation = 1 })
	k.PrepareUpdate = do2(func(c, old *networkingv1.IngressClass) { raise(c, old, &c.Spec, &old.Spec) })
	k.Validate = check1(validateIngressClass)
	k.ValidateUpdate = check2(func(c, old *networkingv1.IngressClass) field.ErrorList {
		return append(validateIngressClass(c), unchanged(field.NewPath("spec", "controller"), c.Spec.Controller, old.Spec.Controller)...)
	})
	k.Columns = named[*networkingv1.IngressClass]().
		text("Controller", "Controller that is responsible for handling this class", func(c *networkingv1.IngressClass) string { return c.Spec.Controller }).
		text("Parameters", "A reference to a resource with additional parameters", func(c *networkingv1.IngressClass) string {
			r := c.Spec.Parameters
			if r == nil {
				return "<none>"
			}
			if g := deref(r.APIGroup); g != "" {
				return r.Kind + "." + g + "/" + r.Name
			}
			return r.Kind + "/" + r.Name
		}).
		age()
	return k
}

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	p := field.NewPath("spec")
	var errs field.ErrorList
	if c.Spec.Controller == "" {
		errs = append(errs, field.Required(p.Child("controller"), ""))
	} else {
		if len(c.Spec.Controller) > 250 {
			errs = append(errs, field.TooLong(p.Child("controller"), c.Spec.Controller, 250))
		}
		errs = append(errs, validation.IsDomainPrefixedPath(p.Child("controller"), c.Spec.Controller)...)
	}
	if r := c.Spec.Parameters; r != nil {
		at := p.Child("parameters")
		errs = append(errs, validateReference(at, r.APIGroup, r.Kind, r.Name)...)
		if r.Scope == nil {
			errs = append(errs, field.Required(at.Child("scope"), ""))
		}
		bad := supported(at.Child("scope"), deref(r.Scope), networkingv1.IngressClassParametersReferenceScopeCluster,
			networkingv1.IngressClassParametersReferenceScopeNamespace)
		if len(bad) > 0 {
			return append(errs, bad...)
		}
		namespaced := deref(r.Scope) == networkingv1.IngressClassParametersReferenceScopeNamespace
		switch {
		case namespaced && r.Namespace == nil:
			errs = append(errs, field.Required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
		case namespaced:
			errs = append(errs, invalids(at.Child("namespace"), *r.Namespace, validation.IsDNS1123Label(*r.Namespace))...)
		case r.Namespace != nil:
			errs = append(errs, field.Forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
		}
	}
	return errs
}
