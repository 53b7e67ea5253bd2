package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// handler is what a probe or a hook does: exactly one of its fields.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
	// grace bounds a sleep.
	grace *int64
}

func validateHandler(p *field.Path, h handler) field.ErrorList {
	var errs field.ErrorList
	handlers := 0
	first := func(name string, check func(*field.Path)) {
		if handlers++; handlers > 1 {
			errs = append(errs, field.Forbidden(p.Child(name), "may not specify more than 1 handler type"))
			return
		}
		check(p.Child(name))
	}
	if h.exec != nil {
		first("exec", func(p *field.Path) {
			if len(h.exec.Command) == 0 {
				errs = append(errs, field.Required(p.Child("command"), ""))
			}
		})
	}
	if h.httpGet != nil {
		first("httpGet", func(p *field.Path) { errs = append(errs, validateHTTPGet(p, h.httpGet)...) })
	}
	if h.tcpSocket != nil {
		first("tcpSocket", func(p *field.Path) { errs = append(errs, portNumberOrName(p.Child("port"), h.tcpSocket.Port)...) })
	}
	if h.grpc != nil {
		first("grpc", func(p *field.Path) { errs = append(errs, portNumber(p.Child("port"), h.grpc.Port)...) })
	}
	if h.sleep != nil {
		first("sleep", func(p *field.Path) {
			if h.grace != nil && (h.sleep.Seconds < 0 || h.sleep.Seconds > *h.grace) {
				errs = append(errs, field.Invalid(p, h.sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *h.grace)))
			}
		})
	}
	if handlers == 0 {
		errs = append(errs, field.Required(p, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(p *field.Path, h *corev1.HTTPGetAction) field.ErrorList {
	var errs field.ErrorList
	if h.Path == "" {
		errs = append(errs, field.Required(p.Child("path"), ""))
	}
	errs = append(errs, portNumberOrName(p.Child("port"), h.Port)...)
	errs = append(errs, supported(p.Child("scheme"), h.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for _, header := range h.HTTPHeaders {
		errs = append(errs, invalids(p.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}

func validateProbes(p *field.Path, c *corev1.Container) field.ErrorList {
	errs := validateProbe(p.Child("livenessProbe"), c.LivenessProbe)
	errs = append(errs, validateProbe(p.Child("readinessProbe"), c.ReadinessProbe)...)
	errs = append(errs, validateProbe(p.Child("startupProbe"), c.StartupProbe)...)
	once := func(name string, probe *corev1.Probe) {
		if probe != nil && probe.SuccessThreshold != 1 {
			errs = append(errs, field.Invalid(p.Child(name, "successThreshold"), probe.SuccessThreshold, "must be 1"))
		}
	}
	once("livenessProbe", c.LivenessProbe)
	once("startupProbe", c.StartupProbe)
	if c.ReadinessProbe != nil && c.ReadinessProbe.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(p.Child("readinessProbe", "terminationGracePeriodSeconds"),
			*c.ReadinessProbe.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	return errs
}

func validateProbe(p *field.Path, probe *corev1.Probe) field.ErrorList {
	if probe == nil {
		return nil
	}
	errs := validateHandler(p, handler{exec: probe.Exec, httpGet: probe.HTTPGet, tcpSocket: probe.TCPSocket, grpc: probe.GRPC})
	errs = append(errs, nonNegative(p.Child("initialDelaySeconds"), int64(probe.InitialDelaySeconds))...)
	errs = append(errs, nonNegative(p.Child("timeoutSeconds"), int64(probe.TimeoutSeconds))...)
	errs = append(errs, nonNegative(p.Child("periodSeconds"), int64(probe.PeriodSeconds))...)
	errs = append(errs, nonNegative(p.Child("successThreshold"), int64(probe.SuccessThreshold))...)
	errs = append(errs, nonNegative(p.Child("failureThreshold"), int64(probe.FailureThreshold))...)
	if g := probe.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		errs = append(errs, field.Invalid(p.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
	}
	return errs
}

func validateSecurityContext(p *field.Path, sc *corev1.SecurityContext) field.ErrorList {
	if sc == nil {
		return nil
	}
	var errs field.ErrorList
	if sc.RunAsUser != nil {
		errs = append(errs, invalids(p.Child("runAsUser"), *sc.RunAsUser, validation.IsValidUserID(*sc.RunAsUser))...)
	}
	if sc.RunAsGroup != nil {
		errs = append(errs, invalids(p.Child("runAsGroup"), *sc.RunAsGroup, validation.IsValidGroupID(*sc.RunAsGroup))...)
	}
	if sc.ProcMount != nil {
		errs = append(errs, supported(p.Child("procMount"), *sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
	}
	errs = append(errs, validateSeccomp(p.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, validateAppArmor(p.Child("appArmorProfile"), sc.AppArmorProfile)...)
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if deref(sc.Privileged) {
			errs = append(errs, field.Invalid(p, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil {
			for _, c := range sc.Capabilities.Add {
				if c == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(p, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	return errs
}

func validateSeccomp(p *field.Path, s *corev1.SeccompProfile) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validateProfile(p, s.Type == corev1.SeccompProfileTypeLocalhost, s.LocalhostProfile, "seccomp")
	if s.Type == "" {
		return append(errs, field.Required(p.Child("type"), "type is required when seccompProfile is set"))
	}
	return append(errs, supported(p.Child("type"), s.Type, corev1.SeccompProfileTypeLocalhost,
		corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
}

func validateAppArmor(p *field.Path, a *corev1.AppArmorProfile) field.ErrorList {
	if a == nil {
		return nil
	}
	var errs field.ErrorList
	local := a.Type == corev1.AppArmorProfileTypeLocalhost
	switch {
	case local && a.LocalhostProfile == nil:
		errs = append(errs, field.Required(p.Child("localhostProfile"), "must be set when AppArmor type is Localhost"))
	case local && strings.TrimSpace(*a.LocalhostProfile) != *a.LocalhostProfile:
		errs = append(errs, field.Invalid(p.Child("localhostProfile"), *a.LocalhostProfile, "must not be padded with whitespace"))
	case local && *a.LocalhostProfile == "":
		errs = append(errs, field.Required(p.Child("localhostProfile"), "must be set when AppArmor type is Localhost"))
	case !local && a.Type != "" && a.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(p.Child("localhostProfile"), a.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	}
	if a.Type == "" {
		return append(errs, field.Required(p.Child("type"), "type is required when appArmorProfile is set"))
	}
	return append(errs, supported(p.Child("type"), a.Type, corev1.AppArmorProfileTypeLocalhost,
		corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)...)
}

func validateProfile(p *field.Path, local bool, profile *string, what string) field.ErrorList {
	at := p.Child("localhostProfile")
	switch {
	case local && profile == nil:
		return field.ErrorList{field.Required(at, "must be set when "+what+" type is Localhost")}
	case local:
		return relativePath(at, *profile)
	case profile != nil:
		return field.ErrorList{field.Invalid(at, map[string]any{"localhostProfile": profile}, "can only be set when "+what+" type is Localhost")}
	}
	return nil
}
