package metrics

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func write(list []model.LabelSet) string {
	var out []string
	for _, l := range list {
		out = append(out, l.String())
	}
	return strings.Join(out, "; ")
}

func TestPodTargets(t *testing.T) {
	pod := func(annotations map[string]string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", Annotations: annotations, Labels: map[string]string{"app": "web", "job": "x", "a.b/c": "d"}},
			Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}}}, {Ports: []corev1.ContainerPort{{ContainerPort: 81, Protocol: corev1.ProtocolTCP}}}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"}}
		if change != nil {
			change(p)
		}
		return p
	}
	yes := map[string]string{scrapeAnnotation: "true"}
	const common = `a_b_c="d", app="web", namespace="n", node="node", pod="p"`
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"not annotated":  {pod(nil, nil), ""},
		"every TCP port": {pod(yes, nil), fmt.Sprintf(`{__address__="10.0.0.1:80", %[1]s}; {__address__="10.0.0.1:81", %[1]s}`, common)},
		"annotated port, path and scheme": {pod(map[string]string{scrapeAnnotation: "true", portAnnotation: "9", pathAnnotation: "/p", schemeAnnotation: "https"}, nil),
			`{__address__="10.0.0.1:9", __metrics_path__="/p", __scheme__="https", ` + common + `}`},
		"IPv6":        {pod(map[string]string{scrapeAnnotation: "true", portAnnotation: "9"}, func(p *corev1.Pod) { p.Status.PodIP = "fd00::1" }), `{__address__="[fd00::1]:9", ` + common + `}`},
		"not running": {pod(yes, func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }), ""},
		"on no node":  {pod(yes, func(p *corev1.Pod) { p.Spec.NodeName = "" }), ""},
		"no address":  {pod(yes, func(p *corev1.Pod) { p.Status.PodIP = "" }), ""},
	} {
		if got := write(podTargets(tt.pod)); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
	}
}

func TestServiceTargets(t *testing.T) {
	port, node, udp := int32(8080), "node", corev1.ProtocolUDP
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s", Labels: map[string]string{"app": "web"}}}
	slice := &discoveryv1.EndpointSlice{
		Ports: []discoveryv1.EndpointPort{{Port: &port}, {Port: &port, Protocol: &udp}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, NodeName: &node, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"}}, {},
		},
	}
	const common = `app="web", namespace="n", node="node", pod="p", service="s"`
	if got, want := write(sliceTargets(svc, slice)), `{__address__="10.0.0.1:8080", `+common+`}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	svc.Annotations = map[string]string{portAnnotation: "9"}
	if got, want := write(sliceTargets(svc, slice)), `{__address__="10.0.0.1:9", `+common+`}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
