package kind

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func nodeKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Node, corev1.NodeList](gv, "nodes", "no").inCluster()
	k.Prefix = "minions"
	k.Default = do1(func(n *corev1.Node) {
		// podCIDR is podCIDRs[0], whichever of them the writer knows.
		switch {
		case n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR):
			n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
		case n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0:
			n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
		}
		if n.Status.Allocatable == nil {
			n.Status.Allocatable = n.Status.Capacity.DeepCopy()
		}
		roundUp(n.Status.Capacity)
		roundUp(n.Status.Allocatable)
	})
	// A node registers itself with its status: it is kept on creation, but for
	// the configuration that nodes once had by API.
	k.PrepareCreate = do1(func(n *corev1.Node) { n.Spec.ConfigSource, n.Status.Config = nil, nil })
	k.PrepareUpdate = do2(func(n, old *corev1.Node) {
		n.Status = *old.Status.DeepCopy()
		n.Spec.ConfigSource = nil
	})
	k.Validate = check1(validateNode)
	k.ValidateUpdate = check2(validateNodeUpdate)
	k.Warnings = warn1(func(n *corev1.Node) []string {
		if n.Spec.DoNotUseExternalID != "" {
			return []string{"spec.externalID: this field is deprecated, and is unused by Kubernetes"}
		}
		return nil
	})
	k.Fields = select1(func(n *corev1.Node) fields.Set {
		return fields.Set{"spec.unschedulable": boolText(n.Spec.Unschedulable)}
	})
	k.Columns = nodeColumns()
	k.Subresources = []Subresource{
		{Name: "proxy", Body: gv.WithKind("NodeProxyOptions"), Verbs: proxyVerbs()},
		status(func(n, old *corev1.Node) {
			n.Spec = *old.Spec.DeepCopy()
			n.Status.Config = nil
		}, func(n, old *corev1.Node) field.ErrorList {
			return validateNodeStatus(field.NewPath("status"), &n.Status)
		}),
	}
	return k
}

func validateNode(n *corev1.Node) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateTaints(field.NewPath("metadata", "taints"), n.Spec.Taints) // upstream's path
	errs = append(errs, validateNodeStatus(field.NewPath("status"), &n.Status)...)
	return append(errs, validatePodCIDRs(p.Child("podCIDRs"), n.Spec.PodCIDRs)...)
}

func validatePodCIDRs(p *field.Path, cidrs []string) field.ErrorList {
	var errs field.ErrorList
	families := map[bool]bool{}
	for i, c := range cidrs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(p.Index(i), c, true, nil)...)
		if prefix, err := netip.ParsePrefix(c); err == nil {
			families[prefix.Addr().Is6()] = true
		}
	}
	if len(cidrs) > 2 || len(cidrs) == 2 && len(families) != 2 {
		errs = append(errs, field.Invalid(p, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

func validateTaints(p *field.Path, taints []corev1.Taint) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, t := range taints {
		at := p.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		errs = append(errs, invalids(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
		errs = append(errs, validateTaintEffect(at.Child("effect"), t.Effect)...)
		key := t.Key + "\x00" + string(t.Effect)
		if seen[key] {
			d := field.Duplicate(at, t)
			d.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, d)
		}
		seen[key] = true
	}
	return errs
}

func validateNodeStatus(p *field.Path, s *corev1.NodeStatus) field.ErrorList {
	var errs field.ErrorList
	list := func(name string, resources corev1.ResourceList) {
		for _, r := range sortedNames(resources) {
			errs = append(errs, validateQuantity(p.Child(name).Key(string(r)), r, resources[r])...)
		}
	}
	list("capacity", s.Capacity)
	list("allocatable", s.Allocatable)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range s.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(p.Child("addresses").Index(i), a))
		}
		seen[a] = true
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateTaints(field.NewPath("metadata", "taints"), n.Spec.Taints)
	errs = append(errs, validatePodCIDRs(p.Child("podCIDRs"), n.Spec.PodCIDRs)...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(p.Child("externalID"), "may not be updated"))
	}
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(p.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(p.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	return errs
}

func nodeColumns() []Column {
	info, doc := corev1.NodeSystemInfo{}.SwaggerDoc(), corev1.NodeStatus{}.SwaggerDoc()
	address := func(t corev1.NodeAddressType) func(*corev1.Node) string {
		return func(n *corev1.Node) string {
			for _, a := range n.Status.Addresses {
				if a.Type == t {
					return a.Address
				}
			}
			return "<none>"
		}
	}
	orUnknown := func(s string) string {
		if s == "" {
			return "<unknown>"
		}
		return s
	}
	return named[*corev1.Node]().
		text("Status", "The status of the node", nodeStatusText).
		text("Roles", "The roles of the node", nodeRoles).
		age().
		text("Version", info["kubeletVersion"], func(n *corev1.Node) string { return n.Status.NodeInfo.KubeletVersion }).
		text("Internal-IP", doc["addresses"], address(corev1.NodeInternalIP)).wide().
		text("External-IP", doc["addresses"], address(corev1.NodeExternalIP)).wide().
		text("OS-Image", info["osImage"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.OSImage) }).wide().
		text("Kernel-Version", info["kernelVersion"], func(n *corev1.Node) string {
			kernel := orUnknown(n.Status.NodeInfo.KernelVersion)
			if arch := n.Status.NodeInfo.Architecture; arch != "" {
				kernel += " (" + arch + ")"
			}
			return kernel
		}).wide().
		text("Container-Runtime", info["containerRuntimeVersion"], func(n *corev1.Node) string {
			return orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion)
		}).wide()
}

func nodeStatusText(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for key, v := range n.Labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if key == "kubernetes.io/role" && v != "" {
			roles = append(roles, v)
		}
	}
	slices.Sort(roles)
	return orNone(slices.Compact(roles)...)
}
