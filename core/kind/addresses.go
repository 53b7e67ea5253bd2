package kind

import (
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func ipAddressKind(gv schema.GroupVersion) *Kind {
	k := define[networkingv1.IPAddress, networkingv1.IPAddressList](gv, "ipaddresses", "ip").inCluster()
	// The object's name is the address, in its canonical form.
	k.ValidateName = func(name string, _ bool) []string {
		ip, err := netip.ParseAddr(name)
		switch {
		case err != nil:
			return []string{"must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"}
		case ip.String() != name:
			return []string{"must be in canonical form (\"" + ip.String() + "\")"}
		}
		return nil
	}
	k.Validate = check1(validateIPAddress)
	k.ValidateUpdate = check2(func(ip, old *networkingv1.IPAddress) field.ErrorList {
		return append(validateIPAddress(ip), unchanged(field.NewPath("spec", "parentRef"), ip.Spec.ParentRef, old.Spec.ParentRef)...)
	})
	k.Columns = named[*networkingv1.IPAddress]().
		text("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"], func(ip *networkingv1.IPAddress) string {
			r := ip.Spec.ParentRef
			if r == nil {
				return "<none>"
			}
			var parts []string
			for _, s := range []string{r.Group, r.Resource, r.Namespace, r.Name} {
				if s != "" {
					parts = append(parts, s)
				}
			}
			return strings.Join(parts, "/")
		})
	return k
}

func validateIPAddress(ip *networkingv1.IPAddress) field.ErrorList {
	p, r := field.NewPath("spec", "parentRef"), ip.Spec.ParentRef
	if r == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	var errs field.ErrorList
	if r.Group != "" {
		errs = append(errs, invalids(p.Child("group"), r.Group, validation.IsDNS1123Subdomain(r.Group))...)
	}
	errs = append(errs, required(p.Child("resource"), r.Resource, path.IsValidPathSegmentName)...)
	errs = append(errs, required(p.Child("name"), r.Name, path.IsValidPathSegmentName)...)
	if r.Namespace != "" {
		errs = append(errs, invalids(p.Child("namespace"), r.Namespace, path.IsValidPathSegmentName(r.Namespace))...)
	}
	return errs
}

func serviceCIDRKind(gv schema.GroupVersion) *Kind {
	k := define[networkingv1.ServiceCIDR, networkingv1.ServiceCIDRList](gv, "servicecidrs").inCluster()
	k.PrepareCreate = do1(func(c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} })
	k.PrepareUpdate = do2(func(c, old *networkingv1.ServiceCIDR) { c.Status = *old.Status.DeepCopy() })
	k.Validate = check1(func(c *networkingv1.ServiceCIDR) field.ErrorList {
		p := field.NewPath("spec", "cidrs")
		if len(c.Spec.CIDRs) == 0 {
			return field.ErrorList{field.Required(p, "at least one CIDR required")}
		}
		if len(c.Spec.CIDRs) > 2 {
			return field.ErrorList{field.Invalid(p, c.Spec, "may only hold up to 2 values")}
		}
		var errs field.ErrorList
		for i, cidr := range c.Spec.CIDRs {
			errs = append(errs, validation.IsValidCIDR(p.Index(i), cidr)...)
		}
		if len(c.Spec.CIDRs) == 2 {
			a, errA := netip.ParsePrefix(c.Spec.CIDRs[0])
			b, errB := netip.ParsePrefix(c.Spec.CIDRs[1])
			if errA == nil && errB == nil && a.Addr().Is4() == b.Addr().Is4() {
				errs = append(errs, field.Invalid(p, c.Spec.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
			}
		}
		return errs
	})
	k.ValidateUpdate = check2(func(c, old *networkingv1.ServiceCIDR) field.ErrorList {
		if len(old.Spec.CIDRs) == 1 && len(c.Spec.CIDRs) == 2 && c.Spec.CIDRs[0] == old.Spec.CIDRs[0] {
			return k.Validate(c)
		}
		if len(c.Spec.CIDRs) == len(old.Spec.CIDRs) {
			var errs field.ErrorList
			for i, cidr := range c.Spec.CIDRs {
				errs = append(errs, unchanged(field.NewPath("spec", "cidrs").Index(i), cidr, old.Spec.CIDRs[i])...)
			}
			return errs
		}
		if !slices.Equal(c.Spec.CIDRs, old.Spec.CIDRs) {
			return field.ErrorList{field.Invalid(field.NewPath("spec", "cidrs"), c.Spec.CIDRs, immutable)}
		}
		return nil
	})
	k.Columns = named[*networkingv1.ServiceCIDR]().
		text("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"], func(c *networkingv1.ServiceCIDR) string {
			return strings.Join(c.Spec.CIDRs, ",")
		}).
		age()
	k.Subresources = []Subresource{status(func(c, old *networkingv1.ServiceCIDR) {
		c.Spec = *old.Spec.DeepCopy()
		c.Finalizers = slices.Clone(old.Finalizers)
	}, nil)}
	return k
}
