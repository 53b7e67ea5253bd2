package metrics

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"binnacle.io/core/client"
	"binnacle.io/exporters/cgroup"
)

// topWindow is the span over which metrics.k8s.io measures CPU. A younger
// container is measured since its start.
const topWindow = 15 * time.Second

// ResourceAPI serves metrics.k8s.io/v1beta1 (kubectl top, outside
// autoscalers) from the one-second samples. It authenticates nobody: mount it
// behind the API's own authentication and authorization.
type ResourceAPI struct {
	client  client.Client
	history *cgroup.History
	node    string
	codecs  serializer.CodecFactory
	now     func() time.Time
}

// NewResourceAPI answers for the pods of one node, whose samples are in
// history.
func NewResourceAPI(c client.Client, history *cgroup.History, node string) *ResourceAPI {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	// Registering fixed types on an empty scheme cannot fail.
	if err := metricsv1beta1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	return &ResourceAPI{client: c, history: history, node: node, codecs: serializer.NewCodecFactory(scheme), now: time.Now}
}

var metricsGV = metricsv1beta1.SchemeGroupVersion

// ServeHTTP answers below /apis/metrics.k8s.io.
func (a *ResourceAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/apis/"+metricsGV.Group), "/"), "/")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.fail(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{Group: metricsGV.Group, Resource: last(parts)}, strings.ToLower(r.Method)))
		return
	}
	if v := r.URL.Query().Get("watch"); v == "1" || v == "true" {
		a.fail(w, r, apierrors.NewMethodNotSupported(schema.GroupResource{Group: metricsGV.Group, Resource: last(parts)}, "watch"))
		return
	}
	var (
		obj runtime.Object
		err error
	)
	switch {
	case parts[0] == "":
		obj = ResourceGroup()
	case parts[0] != metricsGV.Version:
		err = notFound(r)
	case len(parts) == 1:
		obj = ResourceList()
	case len(parts) == 2 && parts[1] == "nodes":
		obj, err = a.listNodes(r)
	case len(parts) == 3 && parts[1] == "nodes":
		obj, err = a.getNode(r.Context(), parts[2])
	case len(parts) == 2 && parts[1] == "pods":
		obj, err = a.listPods(r, "")
	case len(parts) == 4 && parts[1] == "namespaces" && parts[3] == "pods":
		obj, err = a.listPods(r, parts[2])
	case len(parts) == 5 && parts[1] == "namespaces" && parts[3] == "pods":
		obj, err = a.getPod(r.Context(), client.Key{Namespace: parts[2], Name: parts[4]})
	default:
		err = notFound(r)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.write(w, r, http.StatusOK, obj)
}

func last(parts []string) string { return parts[len(parts)-1] }

func notFound(r *http.Request) error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, strings.ToLower(r.Method), schema.GroupResource{}, "", "", 0, false)
}

// ResourceGroup describes metrics.k8s.io for a discovery document.
func ResourceGroup() *metav1.APIGroup {
	v := metav1.GroupVersionForDiscovery{GroupVersion: metricsGV.String(), Version: metricsGV.Version}
	return &metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     metricsGV.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
	}
}

// ResourceList describes the resources of metrics.k8s.io/v1beta1.
func ResourceList() *metav1.APIResourceList {
	verbs := metav1.Verbs{"get", "list"}
	return &metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: metricsGV.String(),
		APIResources: []metav1.APIResource{
			{Name: "nodes", Kind: "NodeMetrics", Verbs: verbs},
			{Name: "pods", Kind: "PodMetrics", Namespaced: true, Verbs: verbs},
		},
	}
}

// selection reads the label and field selectors of a list.
func selection(r *http.Request) (client.ReadOptions, error) {
	o := client.ReadOptions{FromCache: true}
	q := r.URL.Query()
	var err error
	if s := q.Get("labelSelector"); s != "" {
		if o.Labels, err = labels.Parse(s); err != nil {
			return o, apierrors.NewBadRequest("unable to parse labelSelector: " + err.Error())
		}
	}
	if s := q.Get("fieldSelector"); s != "" {
		if o.Fields, err = fields.ParseSelector(s); err != nil {
			return o, apierrors.NewBadRequest("unable to parse fieldSelector: " + err.Error())
		}
	}
	return o, nil
}

func (a *ResourceAPI) listNodes(r *http.Request) (runtime.Object, error) {
	o, err := selection(r)
	if err != nil {
		return nil, err
	}
	nodes, _, err := client.ListOf[*corev1.Node](r.Context(), a.client, o)
	if err != nil {
		return nil, err
	}
	list := &metricsv1beta1.NodeMetricsList{TypeMeta: metav1.TypeMeta{Kind: "NodeMetricsList", APIVersion: metricsGV.String()}, Items: []metricsv1beta1.NodeMetrics{}}
	for _, n := range nodes {
		if m, ok := a.nodeMetrics(n); ok {
			list.Items = append(list.Items, m)
		}
	}
	return list, nil
}

func (a *ResourceAPI) getNode(ctx context.Context, name string) (runtime.Object, error) {
	n, err := client.GetCached[*corev1.Node](ctx, a.client, "", name)
	if err != nil {
		return nil, err
	}
	m, ok := a.nodeMetrics(n)
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: metricsGV.Group, Resource: "nodes"}, name)
	}
	return &m, nil
}

func (a *ResourceAPI) nodeMetrics(n *corev1.Node) (metricsv1beta1.NodeMetrics, bool) {
	if n.Name != a.node {
		return metricsv1beta1.NodeMetrics{}, false
	}
	r, ok := a.history.Node(topWindow)
	if !ok {
		return metricsv1beta1.NodeMetrics{}, false
	}
	return metricsv1beta1.NodeMetrics{
		TypeMeta:   metav1.TypeMeta{Kind: "NodeMetrics", APIVersion: metricsGV.String()},
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, CreationTimestamp: metav1.NewTime(a.now())},
		Timestamp:  metav1.NewTime(r.Time), Window: metav1.Duration{Duration: r.Window}, Usage: usage(&r),
	}, true
}

func (a *ResourceAPI) listPods(r *http.Request, namespace string) (runtime.Object, error) {
	o, err := selection(r)
	if err != nil {
		return nil, err
	}
	o.Namespace = namespace
	pods, _, err := client.ListOf[*corev1.Pod](r.Context(), a.client, o)
	if err != nil {
		return nil, err
	}
	rates := byPod(a.history.Containers(nil, topWindow))
	list := &metricsv1beta1.PodMetricsList{TypeMeta: metav1.TypeMeta{Kind: "PodMetricsList", APIVersion: metricsGV.String()}, Items: []metricsv1beta1.PodMetrics{}}
	for _, p := range pods {
		if m, ok := a.podMetrics(p, rates[client.KeyOf(p)]); ok {
			list.Items = append(list.Items, m)
		}
	}
	return list, nil
}

func (a *ResourceAPI) getPod(ctx context.Context, key client.Key) (runtime.Object, error) {
	p, err := client.GetCached[*corev1.Pod](ctx, a.client, key.Namespace, key.Name)
	if err != nil {
		return nil, err
	}
	m, ok := a.podMetrics(p, byPod(a.history.Containers(nil, topWindow))[key])
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: metricsGV.Group, Resource: "pods"}, key.String())
	}
	return &m, nil
}

func byPod(rates []cgroup.Rate) map[client.Key][]cgroup.Rate {
	out := map[client.Key][]cgroup.Rate{}
	for _, r := range rates {
		k := client.Key{Namespace: r.Container.Namespace, Name: r.Container.Pod}
		out[k] = append(out[k], r)
	}
	return out
}

// podMetrics is a running pod's; containers that have ended are left out and
// a pod of which nothing is known yet has none.
func (a *ResourceAPI) podMetrics(p *corev1.Pod, rates []cgroup.Rate) (metricsv1beta1.PodMetrics, bool) {
	m := metricsv1beta1.PodMetrics{
		TypeMeta:   metav1.TypeMeta{Kind: "PodMetrics", APIVersion: metricsGV.String()},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, CreationTimestamp: metav1.NewTime(a.now())},
	}
	for i := range rates {
		r := &rates[i]
		if r.Container.Sandbox || r.Container.PodUID != string(p.UID) {
			continue
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: r.Container.Name, Usage: usage(r)})
		// One window is shown for all: the end of the latest, the longest.
		if m.Timestamp.Time.Before(r.Time) {
			m.Timestamp = metav1.NewTime(r.Time)
		}
		m.Window.Duration = max(m.Window.Duration, r.Window)
	}
	slices.SortFunc(m.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return strings.Compare(a.Name, b.Name) })
	return m, len(m.Containers) > 0
}

// usage has nanocores and bytes, as metrics-server.
func usage(r *cgroup.Rate) corev1.ResourceList {
	cpu := resource.NewScaledQuantity(int64(math.Round(r.Cores*1e9)), resource.Nano)
	return corev1.ResourceList{
		corev1.ResourceCPU:    *cpu,
		corev1.ResourceMemory: *resource.NewQuantity(int64(r.WorkingSet), resource.BinarySI),
	}
}

func (a *ResourceAPI) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := apierrors.APIStatus(nil)
	if s, ok := err.(apierrors.APIStatus); ok {
		status = s
	} else {
		status = apierrors.NewInternalError(fmt.Errorf("cannot read the cluster's state: %w", err))
	}
	st := status.Status()
	st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	a.write(w, r, int(st.Code), &st)
}

// write encodes as the client prefers: JSON or protobuf.
func (a *ResourceAPI) write(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object) {
	media := runtime.ContentTypeJSON
	for _, want := range strings.Split(r.Header.Get("Accept"), ",") {
		want, params, _ := strings.Cut(strings.TrimSpace(want), ";")
		if strings.Contains(params, "as=") {
			continue // tables are not served; the next choice is
		}
		if want == runtime.ContentTypeProtobuf || want == runtime.ContentTypeJSON {
			media = want
			break
		}
	}
	info, ok := runtime.SerializerInfoForMediaType(a.codecs.SupportedMediaTypes(), media)
	if !ok {
		http.Error(w, "no encoder for "+media, http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_ = info.Serializer.Encode(obj, w) // the client went away
	}
}
