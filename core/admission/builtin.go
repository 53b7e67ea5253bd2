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
	// Disable names plugins to leave out.
	Disable []string
	// VolumeProtection marks claims and volumes in use. Set it when the pvc-
	// and pv-protection controllers run: nobody else takes the marks off.
	VolumeProtection bool
}

// Builtin returns the built-in plugins in upstream's order. They read the cluster
// through c, which acts as a member of system:masters. authz is the authorizer
// of requests; rbac may be nil, then grants are not checked.
func Builtin(cfg Config, c client.Client, rbac *auth.RBAC, authz auth.Authorizer, tel *telemetry.Component) ([]Plugin, error) {
	services, err := NewServices(cfg.Services, c, tel)
	if err != nil {
		return nil, err
	}
	security, err := NewPodSecurity(c)
	if err != nil {
		return nil, err
	}
	all := []Plugin{
		NewNamespaceLifecycle(c),
		NewLimitRanger(c),
		NewServiceAccount(c),
		NewTaintNodesByCondition(),
		security,
		NewPriority(c),
		NewDefaultTolerationSeconds(),
		NewExtendedResourceToleration(),
		NewNodeRestriction(c),
		NewDefaultStorageClass(c),
	}
	if cfg.VolumeProtection {
		all = append(all, NewStorageObjectInUseProtection())
	}
	all = append(all,
		NewPersistentVolumeClaimResize(c),
		NewRuntimeClass(c),
		NewCertificateSigners(authz),
		NewDefaultIngressClass(c),
		services,
	)
	if rbac != nil {
		all = append(all, NewRBACEscalation(rbac, authz))
	}
	all = append(all, NewResourceQuota(c))
	for _, name := range cfg.Disable {
		if !slices.ContainsFunc(all, func(p Plugin) bool { return p.Name() == name }) {
			return nil, fmt.Errorf("cannot disable admission plugin %q: there is no such plugin", name)
		}
	}
	return slices.DeleteFunc(all, func(p Plugin) bool { return slices.Contains(cfg.Disable, p.Name()) }), nil
}
