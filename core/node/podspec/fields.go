package podspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Addresses are the addresses of a pod and of its node, primary first.
type Addresses struct {
	Pod, Host []string
}

// Field returns the value of a downward API field of the pod.
func Field(pod *corev1.Pod, addr Addresses, fieldPath string) (string, error) {
	if base, key, ok := subscript(fieldPath); ok {
		switch base {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
	}
	switch fieldPath {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(addr.Host), nil
	case "status.hostIPs":
		return strings.Join(addr.Host, ","), nil
	case "status.podIP":
		return first(addr.Pod), nil
	case "status.podIPs":
		return strings.Join(addr.Pod, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", fieldPath)
}

func first(l []string) string {
	if len(l) == 0 {
		return ""
	}
	return l[0]
}

// subscript splits metadata.labels['key'].
func subscript(p string) (base, key string, ok bool) {
	if !strings.HasSuffix(p, "']") {
		return "", "", false
	}
	i := strings.Index(p, "['")
	if i < 0 {
		return "", "", false
	}
	return p[:i], p[i+2 : len(p)-2], true
}

// formatMap writes key="value" lines in order of keys.
func formatMap(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(k + "=" + strconv.Quote(m[k]))
	}
	return b.String()
}

// ResourceField returns the value of a downward API resource of a container,
// in units of its divisor, rounded up. A limit that is not set is the node's
// allocatable.
func ResourceField(pod *corev1.Pod, c *corev1.Container, sel *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) (string, error) {
	if sel.ContainerName != "" && c == nil {
		each(pod, func(o *corev1.Container) {
			if o.Name == sel.ContainerName {
				c = o
			}
		})
	}
	if c == nil {
		return "", fmt.Errorf("container %s not found", sel.ContainerName)
	}
	kind, name, ok := strings.Cut(sel.Resource, ".")
	if !ok || kind != "limits" && kind != "requests" {
		return "", fmt.Errorf("unsupported container resource : %v", sel.Resource)
	}
	n := corev1.ResourceName(name)
	q := c.Resources.Requests[n]
	if kind == "limits" {
		q = c.Resources.Limits[n]
		if q.IsZero() {
			q = allocatable[n]
		}
	}
	div := sel.Divisor
	if div.IsZero() {
		div = resource.MustParse("1")
	}
	if n == corev1.ResourceCPU {
		return strconv.FormatInt(ceilDiv(q.MilliValue(), div.MilliValue()), 10), nil
	}
	return strconv.FormatInt(ceilDiv(q.Value(), div.Value()), 10), nil
}

func ceilDiv(a, b int64) int64 {
	if b == 0 {
		return a
	}
	return (a + b - 1) / b
}
