package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
)

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image:1"}}},
			},
		},
	}
}

func TestPatchTypes(t *testing.T) {
	_, k := clients(t)
	ctx := context.Background()
	deps := k.AppsV1().Deployments("default")
	d, err := deps.Create(ctx, deployment("web", 1), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Generation != 1 || d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		t.Errorf("create: generation %d, strategy %q", d.Generation, d.Spec.Strategy.Type)
	}
	for _, c := range []struct {
		name string
		pt   types.PatchType
		body string
		want func(d *appsv1.Deployment) bool
	}{
		{"json", types.JSONPatchType, `[{"op":"replace","path":"/spec/replicas","value":2}]`,
			func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 && d.Generation == 2 }},
		{"merge", types.MergePatchType, `{"metadata":{"labels":{"x":"y","app":null}}}`,
			func(d *appsv1.Deployment) bool {
				return d.Labels["x"] == "y" && d.Labels["app"] == "" && d.Generation == 2
			}},
		{"strategic", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"image:2"}]}}}}`,
			func(d *appsv1.Deployment) bool {
				return len(d.Spec.Template.Spec.Containers) == 2 && d.Generation == 3
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := deps.Patch(ctx, "web", c.pt, []byte(c.body), metav1.PatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
	before, err := deps.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same, err := deps.Patch(ctx, "web", types.MergePatchType, []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if same.ResourceVersion != before.ResourceVersion {
		t.Error("a patch that changes nothing wrote the object")
	}
	for name, c := range map[string]struct {
		pt   types.PatchType
		body string
		code int32
	}{
		"not json":          {types.JSONPatchType, `{`, 400},
		"failing test":      {types.JSONPatchType, `[{"op":"test","path":"/spec/replicas","value":9}]`, 422},
		"no such path":      {types.JSONPatchType, `[{"op":"remove","path":"/spec/nothing"}]`, 422},
		"merge of a list":   {types.MergePatchType, `[]`, 400},
		"wrong type":        {types.MergePatchType, `{"spec":{"replicas":"many"}}`, 422},
		"invalid":           {types.MergePatchType, `{"spec":{"replicas":-1}}`, 422},
		"other name":        {types.MergePatchType, `{"metadata":{"name":"other"}}`, 400},
		"stale":             {types.MergePatchType, `{"metadata":{"resourceVersion":"1"}}`, 409},
		"strategic garbage": {types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":7}}}}`, 422},
	} {
		_, err := deps.Patch(ctx, "web", c.pt, []byte(c.body), metav1.PatchOptions{})
		st, ok := err.(apierrors.APIStatus)
		if !ok || st.Status().Code != c.code {
			t.Errorf("%s: got %v, want code %d", name, err, c.code)
		}
	}
}

func TestApply(t *testing.T) {
	_, k := clients(t)
	ctx := context.Background()
	deps := k.AppsV1().Deployments("default")
	config := func(replicas int32) *applyapps.DeploymentApplyConfiguration {
		return applyapps.Deployment("web", "default").WithSpec(applyapps.DeploymentSpec().
			WithReplicas(replicas).
			WithSelector(applymeta.LabelSelector().WithMatchLabels(map[string]string{"app": "web"})).
			WithTemplate(applycore.PodTemplateSpec().WithLabels(map[string]string{"app": "web"}).
				WithSpec(applycore.PodSpec().WithContainers(applycore.Container().WithName("c").WithImage("image:1")))))
	}
	d, err := deps.Apply(ctx, config(1), metav1.ApplyOptions{FieldManager: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.ManagedFields) != 1 || d.ManagedFields[0].Manager != "one" || d.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managedFields: %+v", d.ManagedFields)
	}
	if strings.Contains(string(d.ManagedFields[0].FieldsV1.GetRawBytes()), "traceparent") {
		t.Error("the trace annotation has an owner")
	}
	again, err := deps.Apply(ctx, config(1), metav1.ApplyOptions{FieldManager: "one"})
	if err != nil || again.ResourceVersion != d.ResourceVersion {
		t.Errorf("the same apply again wrote: %v", err)
	}
	_, err = deps.Apply(ctx, applyapps.Deployment("web", "default").WithSpec(applyapps.DeploymentSpec().WithReplicas(3)), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one"`) {
		t.Errorf("conflicting apply: %v", err)
	}
	if causes := err.(apierrors.APIStatus).Status().Details.Causes; len(causes) != 1 || causes[0].Field != ".spec.replicas" {
		t.Errorf("causes: %+v", causes)
	}
	d, err = deps.Apply(ctx, applyapps.Deployment("web", "default").WithSpec(applyapps.DeploymentSpec().WithReplicas(3)), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil || *d.Spec.Replicas != 3 || d.Generation != 2 {
		t.Fatalf("forced apply: %v, %+v", err, d)
	}
	// What the first manager no longer wants goes, if nobody else owns it.
	d, err = deps.Apply(ctx, config(3).WithLabels(map[string]string{"mine": "1"}), metav1.ApplyOptions{FieldManager: "one"})
	if err != nil || d.Labels["mine"] != "1" {
		t.Fatal(err)
	}
	d, err = deps.Apply(ctx, config(3), metav1.ApplyOptions{FieldManager: "one"})
	if err != nil || d.Labels["mine"] != "" {
		t.Errorf("label not removed: %v %v", err, d.Labels)
	}
}

func TestManagedFieldsOfUpdates(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","annotations":{"binnacle.io/traceparent":"00-11111111111111111111111111111111-2222222222222222-01"}},"data":{"a":"1"}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/v1/namespaces/default/configmaps", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "tool/v1 (x)")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	res, err := s.HTTP(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var cm corev1.ConfigMap
	if err := json.NewDecoder(res.Body).Decode(&cm); err != nil {
		t.Fatal(err)
	}
	if tp := cm.Annotations["binnacle.io/traceparent"]; !strings.HasPrefix(tp, "00-0af7651916cd43dd8448eb211c80319c-") {
		t.Errorf("traceparent: got %q, want the caller's trace", tp)
	}
	if len(cm.ManagedFields) != 1 || cm.ManagedFields[0].Manager != "tool" || cm.ManagedFields[0].Operation != "Update" {
		t.Fatalf("managedFields: %+v", cm.ManagedFields)
	}
	if f := string(cm.ManagedFields[0].FieldsV1.GetRawBytes()); !strings.Contains(f, `"f:a"`) || strings.Contains(f, "traceparent") {
		t.Errorf("fields: %s", f)
	}
	// A metadata update keeps the trace even if the client drops it.
	tp := cm.Annotations["binnacle.io/traceparent"]
	got, err := k.CoreV1().ConfigMaps("default").Patch(ctx, "m", types.MergePatchType, []byte(`{"metadata":{"annotations":null,"labels":{"l":"1"}}}`), metav1.PatchOptions{FieldManager: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Annotations["binnacle.io/traceparent"] != tp {
		t.Errorf("trace lost by a metadata update: %v", got.Annotations)
	}
	if len(got.ManagedFields) != 2 {
		t.Errorf("managedFields: %+v", got.ManagedFields)
	}
	got, err = k.CoreV1().ConfigMaps("default").Patch(ctx, "m", types.MergePatchType, []byte(`{"data":{"a":"2"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Annotations["binnacle.io/traceparent"] == tp {
		t.Error("trace not renewed by a change of what is desired")
	}
}
