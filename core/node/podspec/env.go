package podspec

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Lookup reads the objects a container's environment refers to. Errors are
// the API's.
type Lookup interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// Services returns the Services of a namespace.
	Services(ctx context.Context, namespace string) ([]*corev1.Service, error)
}

// ConfigError is a mistake in what a pod refers to; it is shown as
// CreateContainerConfigError.
type ConfigError struct{ error }

func (e ConfigError) Unwrap() error { return e.error }

func configError(format string, args ...any) error {
	return ConfigError{fmt.Errorf(format, args...)}
}

// environment is an ordered set of variables.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) lookup(name string) (string, bool) {
	v, ok := e.values[name]
	return v, ok
}

func (e *environment) list() []*cri.KeyValue {
	out := make([]*cri.KeyValue, len(e.names))
	for i, n := range e.names {
		out[i] = &cri.KeyValue{Key: n, Value: []byte(e.values[n])}
	}
	return out
}

// environ computes a container's environment: services first, then envFrom,
// then env, each overriding the ones before.
func environ(ctx context.Context, pod *corev1.Pod, c *corev1.Container, n *Node, addr Addresses, look Lookup) (*environment, error) {
	env := &environment{values: map[string]string{}}
	own := &environment{values: map[string]string{}}
	services, err := serviceEnv(ctx, pod, look)
	if err != nil {
		return nil, err
	}
	for _, from := range c.EnvFrom {
		if err := envFrom(ctx, pod, from, own, look); err != nil {
			return nil, err
		}
	}
	// References see what is defined before them, services included.
	visible := func(name string) (string, bool) {
		if v, ok := own.lookup(name); ok {
			return v, true
		}
		return services.lookup(name)
	}
	for i := range c.Env {
		e := &c.Env[i]
		value := expand(e.Value, visible)
		if e.ValueFrom != nil {
			v, ok, err := valueFrom(ctx, pod, c, n, addr, e.ValueFrom, look)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			value = v
		}
		own.set(e.Name, value)
	}
	for _, src := range []*environment{own, services} {
		for _, name := range src.names {
			if _, ok := env.values[name]; !ok {
				env.set(name, src.values[name])
			}
		}
	}
	return env, nil
}

func envFrom(ctx context.Context, pod *corev1.Pod, from corev1.EnvFromSource, env *environment, look Lookup) error {
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := look.ConfigMap(ctx, pod.Namespace, from.ConfigMapRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(from.ConfigMapRef.Optional) {
				return nil
			}
			return ConfigError{err}
		}
		data = cm.Data
	case from.SecretRef != nil:
		s, err := look.Secret(ctx, pod.Namespace, from.SecretRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && isTrue(from.SecretRef.Optional) {
				return nil
			}
			return ConfigError{err}
		}
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if name := from.Prefix + k; validEnvName(name) {
			env.set(name, data[k])
		}
	}
	return nil
}

// validEnvName follows upstream's relaxed rule: printable ASCII without '='.
func validEnvName(s string) bool {
	for _, r := range s {
		if r < 0x20 || r > 0x7e || r == '=' {
			return false
		}
	}
	return s != ""
}

func valueFrom(ctx context.Context, pod *corev1.Pod, c *corev1.Container, n *Node, addr Addresses, src *corev1.EnvVarSource, look Lookup) (string, bool, error) {
	switch {
	case src.FieldRef != nil:
		v, err := Field(pod, addr, src.FieldRef.FieldPath)
		if err != nil {
			return "", false, ConfigError{err}
		}
		return v, true, nil
	case src.ResourceFieldRef != nil:
		ref := src.ResourceFieldRef
		target := c
		if ref.ContainerName != "" && ref.ContainerName != c.Name {
			target = nil
		}
		v, err := ResourceField(pod, target, ref, n.Allocatable)
		if err != nil {
			return "", false, ConfigError{err}
		}
		return v, true, nil
	case src.ConfigMapKeyRef != nil:
		ref := src.ConfigMapKeyRef
		cm, err := look.ConfigMap(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return missing(err, ref.Optional)
		}
		v, ok := cm.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, configError("couldn't find key %v in ConfigMap %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return v, ok, nil
	case src.SecretKeyRef != nil:
		ref := src.SecretKeyRef
		s, err := look.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			return missing(err, ref.Optional)
		}
		v, ok := s.Data[ref.Key]
		if !ok && !isTrue(ref.Optional) {
			return "", false, configError("couldn't find key %v in Secret %v/%v", ref.Key, pod.Namespace, ref.Name)
		}
		return string(v), ok, nil
	}
	return "", false, configError("unsupported source of an environment variable (fileKeyRef is not there yet)")
}

func missing(err error, optional *bool) (string, bool, error) {
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return "", false, nil
	}
	return "", false, ConfigError{err}
}

func isTrue(b *bool) bool { return b != nil && *b }

// serviceEnv returns the variables by which the pod's namespace's Services,
// and the API's, are found.
func serviceEnv(ctx context.Context, pod *corev1.Pod, look Lookup) (*environment, error) {
	env := &environment{values: map[string]string{}}
	list, err := look.Services(ctx, metaDefault)
	if err != nil {
		return nil, err
	}
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	list = slices.DeleteFunc(slices.Clone(list), func(s *corev1.Service) bool {
		return s.Name != "kubernetes" || pod.Namespace == metaDefault && links
	})
	if links {
		own, err := look.Services(ctx, pod.Namespace)
		if err != nil {
			return nil, err
		}
		list = append(list, own...)
	}
	for _, s := range list {
		if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone && len(s.Spec.Ports) > 0 {
			describeService(env, s)
		}
	}
	return env, nil
}

const metaDefault = "default"

func describeService(env *environment, s *corev1.Service) {
	name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	ip := s.Spec.ClusterIP
	env.set(name+"_SERVICE_HOST", ip)
	env.set(name+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			env.set(name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_")), strconv.Itoa(int(p.Port)))
		}
	}
	for i, p := range s.Spec.Ports {
		proto := string(p.Protocol)
		if proto == "" {
			proto = "TCP"
		}
		port := strconv.Itoa(int(p.Port))
		url := strings.ToLower(proto) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			env.set(name+"_PORT", url)
		}
		prefix := name + "_PORT_" + port + "_" + strings.ToUpper(proto)
		env.set(prefix, url)
		env.set(prefix+"_PROTO", strings.ToLower(proto))
		env.set(prefix+"_PORT", port)
		env.set(prefix+"_ADDR", ip)
	}
}
