package admission

import (
	"fmt"
	"slices"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Config chooses and configures the built-in plugins.
type Config struct {
	Services ServicesConfig
	// Enable names plugins that are off unless asked for: AlwaysPullImages,
	// SecurityContextDeny. Disable names plugins to leave out.
	Enable, Disable []string
	PodSecurity     PodSecurityConfig

	// The places of what the cluster's own objects configure: policies and
	// webhooks, changing before checking. Nil leaves a place empty.
	MutatingPolicies, MutatingWebhooks     Plugin
	ValidatingPolicies, ValidatingWebhooks Plugin
}

// Builtin returns the built-in plugins in upstream's order. They read the cluster
// through c, which acts as a member of system:masters. authz is the authorizer
// of requests; rbac may be nil, then grants are not checked.
func Builtin(cfg Config, c client.Client, rbac *auth.RBAC, authz auth.Authorizer, tel *telemetry.Component) ([]Plugin, error) {
	services, err := NewServices(cfg.Services, c, tel)
	if err != nil {
		return nil, err
	}
	security, err := NewPodSecurity(cfg.PodSecurity, c, tel)
	if err != nil {
		return nil, err
	}
	all := []Plugin{
		NewNamespaceLifecycle(c),
		NewLimitRanger(c),
		NewServiceAccount(c),
		NewNodeRestriction(c, authz),
		NewTaintNodesByCondition(),
		NewAlwaysPullImages(),
		NewSecurityContextDeny(),
		security,
		NewPriority(c),
		NewDefaultTolerationSeconds(),
		NewExtendedResourceToleration(),
		NewDefaultStorageClass(c),
		NewStorageObjectInUseProtection(),
		NewPersistentVolumeClaimResize(c),
		NewRuntimeClass(c),
		NewCertificateSigners(authz),
		NewDefaultIngressClass(c),
		NewPodTopologyLabels(c),
	}
	for _, p := range []Plugin{cfg.MutatingPolicies, cfg.MutatingWebhooks, cfg.ValidatingPolicies, cfg.ValidatingWebhooks} {
		if p != nil {
			all = append(all, p)
		}
	}
	// Upstream's storage does this after all admission.
	all = append(all, services)
	if rbac != nil {
		all = append(all, NewRBACEscalation(rbac, authz))
	}
	all = append(all, NewResourceQuota(c))
	return chosen(all, cfg.Enable, cfg.Disable)
}

// onRequest are off unless enabled.
func onRequest() []string { return []string{"AlwaysPullImages", "SecurityContextDeny"} }

// chosen leaves out what is disabled, or is off and not enabled.
func chosen(all []Plugin, enable, disable []string) ([]Plugin, error) {
	for verb, names := range map[string][]string{"enable": enable, "disable": disable} {
		for _, name := range names {
			if !slices.ContainsFunc(all, func(p Plugin) bool { return p.Name() == name }) {
				return nil, fmt.Errorf("cannot %s admission plugin %q: there is no such plugin", verb, name)
			}
		}
	}
	for _, name := range enable {
		if slices.Contains(disable, name) {
			return nil, fmt.Errorf("cannot enable admission plugin %q: it is disabled as well", name)
		}
	}
	return slices.DeleteFunc(all, func(p Plugin) bool {
		off := slices.Contains(onRequest(), p.Name()) && !slices.Contains(enable, p.Name())
		return off || slices.Contains(disable, p.Name())
	}), nil
}
