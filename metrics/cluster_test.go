package metrics

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	metricsclient "k8s.io/metrics/pkg/client/clientset/versioned"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/exporters/cgroup"
)

// place creates a pod that runs as far as its status says.
func place(t testing.TB, c client.Client, name string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "web", Image: "web:1", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("500m")},
		}}}},
	}
	if change != nil {
		change(p)
	}
	p, err := client.Create(t.Context(), c, p)
	if err != nil {
		t.Fatal(err)
	}
	p = p.DeepCopy()
	now := metav1.Now()
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}}, StartTime: &now,
		Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "web", Ready: true, Image: "web:1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}}
	if p, err = client.UpdateStatus(t.Context(), c, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestClusterSeriesAndDiscovery(t *testing.T) {
	s := apitest.Start(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "app_requests_total{path=%q} 9\n", r.URL.Path)
	}))
	defer srv.Close()
	port, _ := strconv.Atoi(srv.URL[strings.LastIndexByte(srv.URL, ':')+1:])
	m := start(t, Config{Node: "node-1", Interval: time.Second}, s.Hub, s.Client, nil)
	place(t, s.Client, "web-0", func(p *corev1.Pod) {
		p.Annotations = map[string]string{scrapeAnnotation: "true", portAnnotation: strconv.Itoa(port), pathAnnotation: "/m"}
	})
	for expr, want := range map[string]float64{
		`kube_pod_status_phase{job="kube-state-metrics",namespace="default",pod="web-0",phase="Running"}`:      1,
		`kube_pod_container_resource_requests{namespace="default",pod="web-0",container="web",resource="cpu"}`: .5,
		`kube_namespace_status_phase{namespace="default",phase="Active"}`:                                      1,
		`count(kube_service_info{namespace="default",service="kubernetes"})`:                                   1,
		`app_requests_total{job="kubernetes-pods",namespace="default",pod="web-0",app="web",path="/m"}`:        9,
		`up{job="kubernetes-pods",pod="web-0"}`:                                                                1,
	} {
		eventually(t, m, expr, is(want))
	}
	eventually(t, m, `count(apiserver_request_total{job="apiserver"}) > 0`, func(v promql.Vector) bool { return len(v) == 1 })
	if text := body(t, m.KubeStateHandler(), "/metrics"); !strings.Contains(text, `kube_pod_info{`) || strings.Contains(text, `job="kube-state-metrics"`) {
		t.Error("the text endpoint lacks pods or shows target labels")
	}
	zero := int64(0)
	if err := client.Delete[*corev1.Pod](t.Context(), s.Client, "default", "web-0", client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	eventually(t, m, `kube_pod_info{pod="web-0"}`, none)
	eventually(t, m, `up{pod="web-0"}`, none)
}

func TestResourceMetricsAPI(t *testing.T) {
	s := apitest.Start(t)
	if _, err := client.Create(t.Context(), s.Client, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"zone": "a"}}}); err != nil {
		t.Fatal(err)
	}
	web := place(t, s.Client, "web-0", nil)
	place(t, s.Client, "silent", nil)
	h := cgroup.NewHistory()
	began := time.Now().Add(-2 * time.Second)
	c := cgroup.Container{ID: "1", Namespace: "default", Pod: "web-0", PodUID: string(web.UID), Name: "web", StartedAt: began}
	pause := cgroup.Container{ID: "2", Namespace: "default", Pod: "web-0", PodUID: string(web.UID), Sandbox: true, StartedAt: began}
	now := began.Add(2 * time.Second)
	h.Add([]cgroup.Sample{
		{Container: &c, Time: now, Usage: cgroup.Usage{CPU: 500_000_000, WorkingSet: 64 << 20}},
		{Container: &pause, Time: now, Usage: cgroup.Usage{CPU: 1, WorkingSet: 1}},
	})
	h.AddNode(cgroup.Usage{CPU: 0}, began)
	h.AddNode(cgroup.Usage{CPU: 3e9, WorkingSet: 1 << 30}, now)
	srv := httptest.NewServer(NewResourceAPI(s.Client, h, "node-1"))
	defer srv.Close()

	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			cs, err := metricsclient.NewForConfig(&rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: contentType, AcceptContentTypes: contentType}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, api := t.Context(), cs.MetricsV1beta1()
			p, err := api.PodMetricses("default").Get(ctx, "web-0", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Containers) != 1 || p.Containers[0].Name != "web" || p.Containers[0].Usage.Cpu().String() != "250m" || p.Containers[0].Usage.Memory().String() != "64Mi" || p.Window.Duration != 2*time.Second {
				t.Errorf("web-0 uses %+v over %s", p.Containers, p.Window.Duration)
			}
			nodes, err := api.NodeMetricses().List(ctx, metav1.ListOptions{LabelSelector: "zone=a"})
			if err != nil || len(nodes.Items) != 1 || nodes.Items[0].Usage.Cpu().String() != "1500m" || nodes.Items[0].Labels["zone"] != "a" {
				t.Errorf("nodes are %+v, %v", nodes, err)
			}
			for _, l := range []struct {
				ns, labels, fields string
				want               int
			}{{"", "", "", 1}, {"default", "app=web", "", 1}, {"default", "app=db", "", 0}, {"kube-system", "", "", 0}, {"default", "", "metadata.name=web-0", 1}, {"default", "", "metadata.name=x", 0}} {
				list, err := api.PodMetricses(l.ns).List(ctx, metav1.ListOptions{LabelSelector: l.labels, FieldSelector: l.fields})
				if err != nil || len(list.Items) != l.want {
					t.Errorf("pods of %+v: %+v, %v", l, list, err)
				}
			}
			for _, name := range []string{"silent", "absent"} {
				if _, err := api.PodMetricses("default").Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
					t.Errorf("get of %s: %v", name, err)
				}
			}
			if _, err := api.NodeMetricses().Watch(ctx, metav1.ListOptions{}); !apierrors.IsMethodNotSupported(err) {
				t.Errorf("watch: %v", err)
			}
			resources, err := cs.Discovery().ServerResourcesForGroupVersion("metrics.k8s.io/v1beta1")
			if err != nil || len(resources.APIResources) != 2 {
				t.Errorf("discovery: %+v, %v", resources, err)
			}
		})
	}
	for url, want := range map[string]int{"/apis/metrics.k8s.io": 200, "/apis/metrics.k8s.io/v2": 404, "/apis/metrics.k8s.io/v1beta1/things": 404, "/apis/metrics.k8s.io/v1beta1/pods?labelSelector=a%3D%3D%3D": 400} {
		resp, err := get(t.Context(), srv.URL+url)
		if err != nil || resp != want {
			t.Errorf("%s: %d, %v, want %d", url, resp, err, want)
		}
	}
}

func get(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
