package admission

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaultTolerationSeconds is how long pods stay on a node that is not ready
// or cannot be reached.
const defaultTolerationSeconds = 300

// DefaultTolerationSeconds lets pods that do not say otherwise stay five
// minutes on a node that is not ready or cannot be reached.
type DefaultTolerationSeconds struct{ only }

// NewDefaultTolerationSeconds returns the plugin.
func NewDefaultTolerationSeconds() DefaultTolerationSeconds {
	return DefaultTolerationSeconds{on(podResource, Create, Update)}
}

func (DefaultTolerationSeconds) Name() string { return "DefaultTolerationSeconds" }

func (DefaultTolerationSeconds) Admit(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		said := slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		})
		if said {
			continue
		}
		seconds := int64(defaultTolerationSeconds)
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
	return nil
}

// ExtendedResourceToleration lets pods that ask for an extended resource onto
// nodes tainted with its name.
type ExtendedResourceToleration struct{ only }

// NewExtendedResourceToleration returns the plugin.
func NewExtendedResourceToleration() ExtendedResourceToleration {
	return ExtendedResourceToleration{on(podResource, Create, Update)}
}

func (ExtendedResourceToleration) Name() string { return "ExtendedResourceToleration" }

func (ExtendedResourceToleration) Admit(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	var names []string
	containers(&pod.Spec, func(c *corev1.Container, _ bool) {
		for name := range c.Resources.Requests {
			if extended(name) && !slices.Contains(names, string(name)) {
				names = append(names, string(name))
			}
		}
	})
	slices.Sort(names)
	for _, name := range names {
		t := corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return have.MatchToleration(&t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}

// extended reports whether a resource is neither Kubernetes' own nor a quota's.
func extended(name corev1.ResourceName) bool {
	domain, _, ok := strings.Cut(string(name), "/")
	return ok && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") &&
		!strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
}
