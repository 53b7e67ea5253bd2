package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podScope is what a container may refer to in its pod.
type podScope struct {
	volumes map[string]*corev1.Volume
	// claims are resource claims by name.
	claims        map[string]bool
	hostNetwork   bool
	restartPolicy corev1.RestartPolicy
	// grace is how many seconds the pod has to end.
	grace *int64
}

func newPodScope(s *corev1.PodSpec, volumes map[string]*corev1.Volume) *podScope {
	scope := &podScope{
		volumes:       volumes,
		claims:        map[string]bool{},
		hostNetwork:   s.HostNetwork,
		restartPolicy: s.RestartPolicy,
		grace:         s.TerminationGracePeriodSeconds,
	}
	for i := range s.ResourceClaims {
		scope.claims[s.ResourceClaims[i].Name] = true
	}
	return scope
}

// containers checks the containers proper.
func (scope *podScope) containers(p *field.Path, cs []corev1.Container) field.ErrorList {
	if len(cs) == 0 {
		return field.ErrorList{field.Required(p, "")}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range cs {
		c, at := &cs[i], p.Index(i)
		errs = append(errs, scope.container(at, c)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
		errs = append(errs, validateProbes(at, c)...)
		errs = append(errs, validateRestartRules(at, c, false)...)
	}
	return append(errs, hostPortConflicts(p, cs)...)
}

// initContainers checks those that run first, sidecars among them.
func (scope *podScope) initContainers(p *field.Path, cs, regular []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range regular {
		names[regular[i].Name] = true
	}
	for i := range cs {
		c, at := &cs[i], p.Index(i)
		errs = append(errs, scope.container(at, c)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
		errs = append(errs, hostPortConflicts(p, cs[i:i+1])...)
		errs = append(errs, validateRestartRules(at, c, true)...)
		if deref(c.RestartPolicy) == corev1.ContainerRestartPolicyAlways {
			errs = append(errs, validateProbes(at, c)...)
			continue
		}
		const once = "may not be set for init containers without restartPolicy=Always"
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"lifecycle", c.Lifecycle != nil},
			{"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(at.Child(f.name), once))
			}
		}
	}
	return errs
}

// container checks what init and regular containers have in common.
func (scope *podScope) container(p *field.Path, c *corev1.Container) field.ErrorList {
	errs := required(p.Child("name"), c.Name, validation.IsDNS1123Label)
	switch {
	case c.Image == "":
		errs = append(errs, field.Required(p.Child("image"), ""))
	case strings.TrimSpace(c.Image) != c.Image:
		errs = append(errs, field.Invalid(p.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	if c.Lifecycle != nil {
		hook := func(name string, h *corev1.LifecycleHandler) {
			if h != nil {
				errs = append(errs, validateHandler(p.Child("lifecycle", name), handler{
					exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep, grace: scope.grace,
				})...)
			}
		}
		hook("postStart", c.Lifecycle.PostStart)
		hook("preStop", c.Lifecycle.PreStop)
	}
	if at := p.Child("terminationMessagePolicy"); c.TerminationMessagePolicy == "" {
		errs = append(errs, field.Required(at, ""))
	} else if c.TerminationMessagePolicy != corev1.TerminationMessageReadFile && c.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		// The list in upstream's order, which is not that of the alphabet.
		errs = append(errs, field.NotSupported(at, c.TerminationMessagePolicy,
			[]corev1.TerminationMessagePolicy{corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError}))
	}
	errs = append(errs, scope.ports(p.Child("ports"), c.Ports)...)
	errs = append(errs, scope.env(p.Child("env"), c.Env)...)
	errs = append(errs, validateEnvFrom(p.Child("envFrom"), c.EnvFrom)...)
	errs = append(errs, scope.mounts(p, c)...)
	errs = append(errs, oneOf(p.Child("imagePullPolicy"), c.ImagePullPolicy,
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validateResources(p.Child("resources"), &c.Resources, scope.claims)...)
	errs = append(errs, scope.resizePolicies(p.Child("resizePolicy"), c.ResizePolicy)...)
	return append(errs, validateSecurityContext(p.Child("securityContext"), c.SecurityContext)...)
}

// resizePolicies are reported at the list, as upstream does.
func (scope *podScope) resizePolicies(p *field.Path, policies []corev1.ContainerResizePolicy) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.ResourceName]bool{}
	for i, r := range policies {
		if seen[r.ResourceName] {
			errs = append(errs, field.Duplicate(p.Index(i), r.ResourceName))
		}
		seen[r.ResourceName] = true
		errs = append(errs, oneOf(p, r.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, oneOf(p, r.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)...)
		if scope.restartPolicy == corev1.RestartPolicyNever && r.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(p, r.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

func validateRestartRules(p *field.Path, c *corev1.Container, init bool) field.ErrorList {
	var errs field.ErrorList
	if c.RestartPolicy != nil {
		errs = append(errs, supported(p.Child("restartPolicy"), *c.RestartPolicy, corev1.ContainerRestartPolicyAlways,
			corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	} else if len(c.RestartPolicyRules) > 0 {
		errs = append(errs, field.Required(p.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
		if init {
			return errs
		}
	}
	if n := len(c.RestartPolicyRules); n > 20 {
		errs = append(errs, field.TooMany(p.Child("restartPolicyRules"), n, 20))
	}
	for i, r := range c.RestartPolicyRules {
		at := p.Child("restartPolicyRules").Index(i)
		errs = append(errs, supported(at.Child("action"), r.Action,
			corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), "must be specified"))
			continue
		}
		errs = append(errs, supported(at.Child("exitCodes", "operator"), r.ExitCodes.Operator,
			corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if n := len(r.ExitCodes.Values); n > 255 {
			errs = append(errs, field.TooMany(at.Child("exitCodes", "values"), n, 255))
		}
	}
	return errs
}

func (scope *podScope) ports(p *field.Path, ports []corev1.ContainerPort) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, port := range ports {
		at := p.Index(i)
		if port.Name != "" {
			if msgs := validation.IsValidPortName(port.Name); len(msgs) > 0 {
				errs = append(errs, invalids(at.Child("name"), port.Name, msgs)...)
			} else if names[port.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, portNumber(at.Child("containerPort"), port.ContainerPort)...)
		}
		if port.HostPort != 0 {
			errs = append(errs, portNumber(at.Child("hostPort"), port.HostPort)...)
		}
		errs = append(errs, validateProtocol(at.Child("protocol"), port.Protocol)...)
	}
	return errs
}

func validateProtocol(p *field.Path, proto corev1.Protocol) field.ErrorList {
	return oneOf(p, proto, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
}

func hostPortConflicts(p *field.Path, cs []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range cs {
		for j, port := range cs[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
			if seen[key] {
				errs = append(errs, field.Duplicate(p.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			seen[key] = true
		}
	}
	return errs
}

func (scope *podScope) env(p *field.Path, env []corev1.EnvVar) field.ErrorList {
	var errs field.ErrorList
	for i, e := range env {
		errs = append(errs, required(p.Index(i).Child("name"), e.Name, validation.IsRelaxedEnvVarName)...)
		if e.ValueFrom != nil {
			errs = append(errs, scope.envSource(p.Index(i).Child("valueFrom"), &env[i])...)
		}
	}
	return errs
}

func (scope *podScope) envSource(p *field.Path, e *corev1.EnvVar) field.ErrorList {
	var errs field.ErrorList
	from, sources := e.ValueFrom, 0
	if f := from.FieldRef; f != nil {
		sources++
		errs = append(errs, validatePodField(p.Child("fieldRef"), f, []string{
			"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
			"spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
		})...)
	}
	if r := from.ResourceFieldRef; r != nil {
		sources++
		errs = append(errs, validateResourceFieldRef(p.Child("resourceFieldRef"), r, false)...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(p.Child("configMapKeyRef"), r.Name, r.Key)...)
	}
	if r := from.SecretKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(p.Child("secretKeyRef"), r.Name, r.Key)...)
	}
	if r := from.FileKeyRef; r != nil {
		sources++
		errs = append(errs, scope.fileKeyRef(p.Child("fileKeyRef"), r)...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(p, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case e.Value != "":
		errs = append(errs, field.Invalid(p, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(p, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func (scope *podScope) fileKeyRef(p *field.Path, r *corev1.FileKeySelector) field.ErrorList {
	errs := required(p.Child("key"), r.Key, validation.IsRelaxedEnvVarName)
	if r.VolumeName == "" {
		errs = append(errs, field.Required(p.Child("volumeName"), ""))
	}
	if v := scope.volumes[r.VolumeName]; v == nil {
		errs = append(errs, field.NotFound(p.Child("volumeName"), r.VolumeName))
	} else if v.EmptyDir == nil {
		errs = append(errs, field.Invalid(p.Child("volumeName"), r.VolumeName, "referenced volume must be of type emptyDir"))
	}
	if r.Path == "" {
		return append(errs, field.Required(p.Child("path"), ""))
	}
	return append(errs, relativePath(p.Child("path"), r.Path)...)
}

func validateKeyRef(p *field.Path, name, key string) field.ErrorList {
	errs := invalids(p.Child("name"), name, subdomain(name))
	return append(errs, required(p.Child("key"), key, validation.IsConfigMapKey)...)
}

// validatePodField checks the downward API's view of the pod.
func validatePodField(p *field.Path, f *corev1.ObjectFieldSelector, paths []string) field.ErrorList {
	if f.APIVersion == "" {
		return field.ErrorList{field.Required(p.Child("apiVersion"), "")}
	}
	if f.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(p.Child("fieldPath"), f.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", f.APIVersion))}
	}
	if f.FieldPath == "" {
		return field.ErrorList{field.Required(p.Child("fieldPath"), "")}
	}
	if base, key, ok := strings.Cut(strings.TrimSuffix(f.FieldPath, "']"), "['"); ok && strings.HasSuffix(f.FieldPath, "']") {
		switch base {
		case "metadata.annotations":
			return invalids(p, f.FieldPath, validation.IsQualifiedName(strings.ToLower(key)))
		case "metadata.labels":
			return invalids(p, f.FieldPath, validation.IsQualifiedName(key))
		}
		return field.ErrorList{field.Invalid(p, f.FieldPath, "does not support subscript")}
	}
	switch f.FieldPath {
	case "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
		"spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
		"status.phase", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs", "spec.host":
		return supported(p.Child("fieldPath"), f.FieldPath, paths...)
	}
	return field.ErrorList{field.Invalid(p.Child("fieldPath"), f.FieldPath, "error converting fieldPath: field label not supported: "+f.FieldPath)}
}

func validateResourceFieldRef(p *field.Path, r *corev1.ResourceFieldSelector, inVolume bool) field.ErrorList {
	if inVolume && r.ContainerName == "" {
		return field.ErrorList{field.Required(p.Child("containerName"), "")}
	}
	if r.Resource == "" {
		return field.ErrorList{field.Required(p.Child("resource"), "")}
	}
	divisors := map[string][]string{
		"cpu":               {"", "0", "1m", "1"},
		"memory":            {"", "0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
		"ephemeral-storage": {"", "0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"},
	}
	name := strings.TrimPrefix(strings.TrimPrefix(r.Resource, "limits."), "requests.")
	if name == r.Resource || divisors[name] == nil && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
		return field.ErrorList{field.NotSupported(p.Child("resource"), r.Resource, []string{
			"limits.cpu", "limits.ephemeral-storage", "limits.memory",
			"requests.cpu", "requests.ephemeral-storage", "requests.memory",
		})}
	}
	allowed, what := divisors[name], name
	switch name {
	case "cpu":
		what = "1m and 1 are supported with the cpu"
	default:
		if allowed == nil {
			allowed, name = divisors["memory"], "hugepages"
		} else if name == "ephemeral-storage" {
			name = "local ephemeral storage"
		}
		what = strings.Join(allowed[2:], ", ") + " are supported with the " + name
	}
	for _, d := range allowed {
		if r.Divisor.String() == d {
			return nil
		}
	}
	return field.ErrorList{field.Invalid(p.Child("divisor"), r.Resource, "only divisor's values "+what+" resource")}
}

func validateEnvFrom(p *field.Path, from []corev1.EnvFromSource) field.ErrorList {
	var errs field.ErrorList
	for i, f := range from {
		at := p.Index(i)
		if f.Prefix != "" {
			errs = append(errs, invalids(at.Child("prefix"), f.Prefix, validation.IsRelaxedEnvVarName(f.Prefix))...)
		}
		if f.ConfigMapRef != nil {
			errs = append(errs, required(at.Child("configMapRef", "name"), f.ConfigMapRef.Name, subdomain)...)
		}
		if f.SecretRef != nil {
			errs = append(errs, required(at.Child("secretRef", "name"), f.SecretRef.Name, subdomain)...)
		}
		switch {
		case f.ConfigMapRef == nil && f.SecretRef == nil:
			errs = append(errs, field.Invalid(p, "", "must specify one of: `configMapRef` or `secretRef`"))
		case f.ConfigMapRef != nil && f.SecretRef != nil:
			errs = append(errs, field.Invalid(p, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

func (scope *podScope) mounts(p *field.Path, c *corev1.Container) field.ErrorList {
	var errs field.ErrorList
	devicePaths, devices, mountPaths := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, d := range c.VolumeDevices {
		devicePaths[d.DevicePath], devices[d.Name] = true, true
	}
	mounted := map[string]bool{}
	// Upstream reports some errors at the list and not at the mount.
	list := p.Child("volumeMounts")
	for i, m := range c.VolumeMounts {
		at := list.Index(i)
		mounted[m.Name] = true
		if m.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if scope.volumes[m.Name] == nil {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		}
		if mountPaths[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		mountPaths[m.MountPath] = true
		if devices[m.Name] {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
		}
		if devicePaths[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		if m.SubPath != "" {
			errs = append(errs, relativePath(list.Child("subPath"), m.SubPath)...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, relativePath(list.Child("subPathExpr"), m.SubPathExpr)...)
		}
		errs = append(errs, validatePropagation(list, &m, c)...)
	}
	names, paths := map[string]bool{}, map[string]bool{}
	for i, d := range c.VolumeDevices {
		name, device := p.Child("volumeDevices").Index(i).Child("name"), p.Child("volumeDevices").Index(i).Child("devicePath")
		if d.Name == "" {
			errs = append(errs, field.Required(name, ""))
		}
		if names[d.Name] {
			errs = append(errs, field.Invalid(name, d.Name, "must be unique"))
		}
		if v := scope.volumes[d.Name]; v == nil {
			errs = append(errs, field.NotFound(name, d.Name))
		} else if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
			errs = append(errs, field.Invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		if d.DevicePath == "" {
			errs = append(errs, field.Required(device, ""))
		}
		if paths[d.DevicePath] {
			errs = append(errs, field.Invalid(device, d.DevicePath, "must be unique"))
		}
		if len(noBacksteps(device, d.DevicePath)) > 0 {
			errs = append(errs, field.Invalid(device, d.DevicePath, "can not contain backsteps ('..')"))
		} else {
			paths[d.DevicePath] = true
		}
		if mounted[d.Name] {
			errs = append(errs, field.Invalid(name, d.Name, "must not already exist in volumeMounts"))
		}
		if mountPaths[d.DevicePath] {
			errs = append(errs, field.Invalid(device, d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
		names[d.Name] = d.Name != ""
	}
	return errs
}

func validatePropagation(p *field.Path, m *corev1.VolumeMount, c *corev1.Container) field.ErrorList {
	var errs field.ErrorList
	if mp := m.MountPropagation; mp != nil {
		privileged := c.SecurityContext != nil && deref(c.SecurityContext.Privileged)
		if *mp == corev1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(p.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
		}
		errs = append(errs, supported(p.Child("mountPropagation"), *mp, corev1.MountPropagationBidirectional,
			corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
	}
	if m.RecursiveReadOnly == nil {
		return errs
	}
	at := p.Child("recursiveReadOnly")
	switch *m.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyDisabled:
	case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
		if !m.ReadOnly {
			errs = append(errs, field.Forbidden(at, "may only be specified when readOnly is true"))
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			errs = append(errs, field.Forbidden(at, "may only be specified when mountPropagation is None or not specified"))
		}
	default:
		errs = append(errs, supported(at, *m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)...)
	}
	return errs
}
