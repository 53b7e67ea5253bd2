package api_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/client"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image:1"}}},
	}
}

func TestRefusedWrites(t *testing.T) {
	s, _ := clients(t)
	const cms, deps = "/api/v1/namespaces/default/configmaps", "/apis/apps/v1/namespaces/default/deployments"
	const cm = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}`
	for _, c := range []struct {
		name, method, path, body string
		code                     int
		text                     string
	}{
		{"unknown field", "POST", deps + "?fieldValidation=Strict", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"foo":1}}`,
			400, `strict decoding error: unknown field \"spec.foo\"`},
		{"duplicate field", "POST", cms + "?fieldValidation=Strict", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"},"data":{"b":"1"}}`,
			400, `strict decoding error: duplicate field \"data\"`},
		{"wrong type", "POST", deps, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"replicas":"two"}}`,
			400, `Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`},
		{"other kind", "POST", cms, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, 400, `Secret in version \"v1\" cannot be handled as a ConfigMap`},
		{"other version", "POST", deps, `{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"x"}}`, 400,
			`the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)`},
		{"unknown kind", "POST", cms, `{"apiVersion":"x/v1","kind":"Thing"}`, 400, `Thing in version`},
		{"no kind", "POST", cms, `7`, 400, `ConfigMap`},
		{"empty", "POST", cms, ``, 400, ``},
		{"bad name", "POST", cms, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"X_y"}}`, 422, `metadata.name: Invalid value: \"X_y\"`},
		{"no name", "POST", cms, `{"apiVersion":"v1","kind":"ConfigMap"}`, 422, `metadata.name: Required value: name or generateName is required`},
		{"bad label", "POST", cms, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","labels":{"a b":"c"}}}`, 422, `metadata.labels: Invalid value: \"a b\"`},
		{"other namespace", "POST", cms, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"kube-system"}}`, 400,
			`the namespace of the provided object does not match the namespace sent on the request`},
		{"no such namespace", "POST", "/api/v1/namespaces/none/configmaps", cm, 404, `namespaces \"none\" not found`},
		{"selector mismatch", "POST", deps, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"c"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`,
			422, `selector` + "`" + ` does not match template ` + "`" + `labels`},
		{"with resourceVersion", "POST", cms, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","resourceVersion":"1"}}`, 400, `resourceVersion should not be set on objects to be created`},
		{"post to a name", "POST", cms + "/x", cm, 405, `the server does not allow this method on the requested resource`},
		{"put to a collection", "PUT", cms, cm, 405, ``},
		{"put of nothing", "PUT", cms + "/x", cm, 404, `configmaps \"x\" not found`},
		{"put of another name", "PUT", cms + "/y", cm, 400, `the name of the object (x) does not match the name on the URL (y)`},
		{"delete of nothing", "DELETE", cms + "/x", ``, 404, `configmaps \"x\" not found`},
		{"delete options of another kind", "DELETE", cms + "/kube-root-ca.crt", cm, 400, ``},
		{"patch type", "PATCH", cms + "/x", `{}`, 415, ``},
		{"field manager", "POST", cms + "?fieldManager=" + strings.Repeat("x", 129), cm, 422, `fieldManager: Too long`},
		{"dry run", "POST", cms + "?dryRun=Maybe", cm, 422, `dryRun: Unsupported value`},
		{"field validation", "POST", cms + "?fieldValidation=Often", cm, 422, `fieldValidation: Unsupported value`},
		{"too large", "POST", cms, `{"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, `limit is 3145728`},
		{"node in a namespace", "POST", "/api/v1/namespaces/default/nodes", cm, 404, ``},
		{"no namespace", "POST", "/api/v1/configmaps", cm, 405, ``},
		{"delete all namespaces", "DELETE", "/api/v1/namespaces", ``, 405, ``},
		{"method", "OPTIONS", cms, ``, 405, ``},
	} {
		code, _, body := ask(t, s, c.method, c.path, c.body, "Content-Type", "application/json")
		if code != c.code || !strings.Contains(string(body), c.text) {
			t.Errorf("%s: got %d %s, want %d %s", c.name, code, body, c.code, c.text)
		}
	}
	if code, _, body := ask(t, s, "GET", cms+"/x", ""); code != 404 {
		t.Errorf("something was stored: %d %s", code, body)
	}
}

func TestInvalidHasCauses(t *testing.T) {
	_, k := clients(t)
	d := deployment("x", -1)
	_, err := k.AppsV1().Deployments("default").Create(context.Background(), d, metav1.CreateOptions{})
	st, ok := err.(apierrors.APIStatus)
	if !ok || st.Status().Reason != metav1.StatusReasonInvalid || st.Status().Details.Kind != "Deployment" || st.Status().Details.Group != "apps" ||
		len(st.Status().Details.Causes) != 1 || st.Status().Details.Causes[0].Field != "spec.replicas" {
		t.Errorf("got %+v", err)
	}
}

func TestWarningsAndRetiredVersions(t *testing.T) {
	s, k := clients(t)
	code, h, body := ask(t, s, "POST", "/apis/extensions/v1beta1/namespaces/default/deployments",
		`{"apiVersion":"extensions/v1beta1","kind":"Deployment","metadata":{"name":"old"},"spec":{"template":{"metadata":{"labels":{"app":"old"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`,
		"Content-Type", "application/json")
	if code != 201 || !strings.Contains(h.Get("Warning"), "299 - ") {
		t.Fatalf("retired version: %d %v %s", code, h["Warning"], body)
	}
	if !strings.Contains(string(body), `"apiVersion":"extensions/v1beta1"`) {
		t.Errorf("answered in another version: %s", body)
	}
	d, err := k.AppsV1().Deployments("default").Get(context.Background(), "old", metav1.GetOptions{})
	if err != nil || d.Spec.Selector.MatchLabels["app"] != "old" {
		t.Errorf("as apps/v1: %v %+v", err, d.Spec.Selector)
	}
	code, _, body = ask(t, s, "GET", "/apis/extensions/v1beta1/namespaces/default/deployments", "")
	if code != 200 || !strings.Contains(string(body), `"apiVersion":"extensions/v1beta1"`) {
		t.Errorf("list: %d %s", code, body)
	}
	code, h, body = ask(t, s, "POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Warn",
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w"},"foo":1}`, "Content-Type", "application/json")
	if code != 201 || h.Get("Warning") != `299 - "unknown field \"foo\""` {
		t.Errorf("warned: %d %q %s", code, h.Get("Warning"), body)
	}
}

func TestDryRun(t *testing.T) {
	_, k := clients(t)
	ctx := context.Background()
	all := []string{metav1.DryRunAll}
	cms := k.CoreV1().ConfigMaps("default")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Data: map[string]string{"a": "1"}}
	if got, err := cms.Create(ctx, cm, metav1.CreateOptions{DryRun: all}); err != nil || got.UID == "" {
		t.Fatalf("create: %v", err)
	}
	if _, err := cms.Get(ctx, "x", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("stored by a dry run: %v", err)
	}
	made, err := cms.Create(ctx, cm, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cms.Create(ctx, cm, metav1.CreateOptions{DryRun: all}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create of what exists: %v", err)
	}
	next := made.DeepCopy()
	next.Data["a"] = "2"
	if got, err := cms.Update(ctx, next, metav1.UpdateOptions{DryRun: all}); err != nil || got.Data["a"] != "2" {
		t.Errorf("update: %v", err)
	}
	if err := cms.Delete(ctx, "x", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if got, err := cms.Get(ctx, "x", metav1.GetOptions{}); err != nil || got.ResourceVersion != made.ResourceVersion {
		t.Errorf("changed by a dry run: %v", err)
	}
}

func TestDeletion(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	t.Run("finalizers", func(t *testing.T) {
		cms := k.CoreV1().ConfigMaps("default")
		if _, err := cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "f", Finalizers: []string{"example.com/hold"}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := cms.Delete(ctx, "f", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		got, err := cms.Get(ctx, "f", metav1.GetOptions{})
		if err != nil || got.DeletionTimestamp == nil {
			t.Fatalf("got %v, %+v", err, got)
		}
		got.Finalizers = append(got.Finalizers, "example.com/more")
		if _, err := cms.Update(ctx, got, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("a new finalizer on a deleted object: %v", err)
		}
		got.Finalizers = nil
		if _, err := cms.Update(ctx, got, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := cms.Get(ctx, "f", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
	})
	t.Run("propagation", func(t *testing.T) {
		deps := k.AppsV1().Deployments("default")
		for policy, finalizer := range map[metav1.DeletionPropagation]string{
			metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents,
			metav1.DeletePropagationOrphan:     metav1.FinalizerOrphanDependents,
		} {
			name := strings.ToLower(string(policy))
			if _, err := deps.Create(ctx, deployment(name, 1), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := deps.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
				t.Fatal(err)
			}
			d, err := deps.Get(ctx, name, metav1.GetOptions{})
			if err != nil || d.DeletionTimestamp == nil || len(d.Finalizers) != 1 || d.Finalizers[0] != finalizer || d.Generation != 2 {
				t.Errorf("%s: %v %+v", policy, err, d.ObjectMeta)
			}
			// Who then deletes in the background takes it along.
			bg := metav1.DeletePropagationBackground
			if err := deps.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &bg}); err != nil {
				t.Fatal(err)
			}
			if _, err := deps.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("%s: still there: %v", policy, err)
			}
		}
	})
	t.Run("preconditions", func(t *testing.T) {
		cms := k.CoreV1().ConfigMaps("default")
		if _, err := cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := cms.Delete(ctx, "p", *metav1.NewPreconditionDeleteOptions("other")); !apierrors.IsConflict(err) {
			t.Errorf("other uid: %v", err)
		}
		if err := cms.Delete(ctx, "p", *metav1.NewRVDeletionPrecondition("1")); !apierrors.IsConflict(err) {
			t.Errorf("other revision: %v", err)
		}
	})
	t.Run("grace", func(t *testing.T) {
		pods := k.CoreV1().Pods("default")
		p, err := pods.Create(ctx, pod("g"), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Spec.TerminationGracePeriodSeconds == nil || p.Status.Phase != corev1.PodPending || p.Status.QOSClass != corev1.PodQOSBestEffort {
			t.Errorf("not defaulted: %+v", p)
		}
		bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "g"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
		if err := pods.Bind(ctx, bind, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Bind(ctx, bind, metav1.CreateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("bound twice: %v", err)
		}
		if err := pods.Delete(ctx, "g", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		p, err = pods.Get(ctx, "g", metav1.GetOptions{})
		if err != nil || p.Spec.NodeName != "n" || p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
			t.Fatalf("got %v, %+v", err, p)
		}
		zero := int64(0)
		if err := pods.Delete(ctx, "g", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
		if _, err := pods.Get(ctx, "g", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
		if _, err := pods.Create(ctx, pod("legacy"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		code, _, body := ask(t, s, "POST", "/api/v1/namespaces/default/bindings", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"legacy"},"target":{"kind":"Node","name":"n"}}`, "Content-Type", "application/json")
		var st metav1.Status
		if err := json.Unmarshal(body, &st); err != nil || code != 201 || st.Kind != "Status" || st.Status != metav1.StatusSuccess {
			t.Errorf("legacy binding: %d %s", code, body)
		}
		// One that no node has goes at once.
		if _, err := pods.Create(ctx, pod("free"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(ctx, "free", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := pods.Get(ctx, "free", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
	})
	t.Run("collection", func(t *testing.T) {
		if _, err := k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "many"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		makeConfigMaps(t, k, "many", 6, "x")
		if err := k.CoreV1().ConfigMaps("many").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd=1"}); err != nil {
			t.Fatal(err)
		}
		list, err := k.CoreV1().ConfigMaps("many").List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 3 {
			t.Errorf("left: %v, %d", err, len(list.Items))
		}
	})
	t.Run("namespace", func(t *testing.T) {
		nss := k.CoreV1().Namespaces()
		if _, err := nss.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gone"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := nss.Delete(ctx, "gone", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		ns, err := nss.Get(ctx, "gone", metav1.GetOptions{})
		if err != nil || ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
			t.Fatalf("got %v, %+v", err, ns)
		}
		_, err = k.CoreV1().ConfigMaps("gone").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			t.Errorf("create in a namespace that goes: %v", err)
		}
		ns.Spec.Finalizers = nil
		if _, err := nss.Finalize(ctx, ns, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := nss.Get(ctx, "gone", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
	})
}

func TestStatusAndScale(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	deps := k.AppsV1().Deployments("default")
	d, err := deps.Create(ctx, deployment("web", 1), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	next := d.DeepCopy()
	next.Status.Replicas = 1
	five := int32(5)
	next.Spec.Replicas = &five
	got, err := deps.UpdateStatus(ctx, next, metav1.UpdateOptions{FieldManager: "controller"})
	if err != nil || got.Status.Replicas != 1 || *got.Spec.Replicas != 1 || got.Generation != 1 {
		t.Fatalf("status: %v %+v", err, got)
	}
	if got.Annotations["binnacle.io/traceparent"] != d.Annotations["binnacle.io/traceparent"] {
		t.Error("the trace changed with the status")
	}
	found := false
	for _, m := range got.ManagedFields {
		if m.Manager == "controller" && m.Subresource == "status" {
			found = true
			if strings.Contains(string(m.FieldsV1.GetRawBytes()), "f:spec") {
				t.Errorf("the status owns spec: %s", m.FieldsV1.GetRawBytes())
			}
		}
	}
	if !found {
		t.Errorf("managedFields: %+v", got.ManagedFields)
	}
	next = got.DeepCopy()
	next.Status.Replicas = 9
	got, err = deps.Update(ctx, next, metav1.UpdateOptions{})
	if err != nil || got.Status.Replicas != 1 {
		t.Errorf("status changed by an update: %v %+v", err, got.Status)
	}

	sc, err := deps.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil || sc.Spec.Replicas != 1 || sc.Status.Selector != "app=web" {
		t.Fatalf("scale: %v %+v", err, sc)
	}
	sc.Spec.Replicas = 4
	if sc, err = deps.UpdateScale(ctx, "web", sc, metav1.UpdateOptions{}); err != nil || sc.Spec.Replicas != 4 {
		t.Fatalf("scale: %v %+v", err, sc)
	}
	code, _, body := ask(t, s, "PATCH", "/apis/apps/v1/namespaces/default/deployments/web/scale", `{"spec":{"replicas":2}}`, "Content-Type", string(types.MergePatchType))
	var patched autoscalingv1.Scale
	if err := json.Unmarshal(body, &patched); err != nil || code != 200 || patched.Spec.Replicas != 2 || patched.Kind != "Scale" {
		t.Errorf("patch: %d %s", code, body)
	}
	code, _, body = ask(t, s, "PATCH", "/apis/apps/v1/namespaces/default/deployments/web/scale", `{"spec":{"replicas":-2}}`, "Content-Type", string(types.MergePatchType))
	if code != 422 {
		t.Errorf("negative: %d %s", code, body)
	}
	d, err = deps.Get(ctx, "web", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 2 || d.Generation != 3 {
		t.Errorf("after: %v %+v", err, d.Spec.Replicas)
	}
}

func TestEviction(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	one := intstr.FromInt32(1)
	pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "default"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}}
	if _, err := client.Create(ctx, s.Client, pdb); err != nil {
		t.Fatal(err)
	}
	p := pod("e")
	p.Namespace = "default"
	if _, err := client.Create(ctx, s.Client, p); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Modify(ctx, s.Client, "default", "e", "status", func(p *corev1.Pod) (bool, error) {
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	setAllowed := func(n int32) {
		t.Helper()
		if _, err := client.Modify(ctx, s.Client, "default", "b", "status", func(b *policyv1.PodDisruptionBudget) (bool, error) {
			b.Status.ObservedGeneration, b.Status.DisruptionsAllowed, b.Status.DesiredHealthy, b.Status.CurrentHealthy = b.Generation, n, 1, 1
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	setAllowed(0)
	ev := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default"}}
	if err := k.PolicyV1().Evictions("default").Evict(ctx, ev); !apierrors.IsTooManyRequests(err) {
		t.Errorf("against the budget: %v", err)
	}
	setAllowed(1)
	// What keeps the pod sees why it goes.
	hold := func(finalizers ...string) *corev1.Pod {
		t.Helper()
		p, err := client.Modify(ctx, s.Client, "default", "e", "", func(p *corev1.Pod) (bool, error) {
			p.Finalizers = finalizers
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	stale := hold("example.com/hold").ResourceVersion
	ev.DeleteOptions = metav1.NewPreconditionDeleteOptions("another")
	if err := k.PolicyV1().Evictions("default").Evict(ctx, ev); !apierrors.IsConflict(err) {
		t.Errorf("of another pod by that name: %v", err)
	}
	setAllowed(1)
	ev.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &stale}}
	if err := k.PolicyV1().Evictions("default").Evict(ctx, ev); err != nil {
		t.Fatal(err)
	}
	if going, err := k.CoreV1().Pods("default").Get(ctx, "e", metav1.GetOptions{}); err != nil || going.DeletionTimestamp == nil ||
		!slices.ContainsFunc(going.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "EvictionByEvictionAPI"
		}) {
		t.Errorf("while it goes: %v %+v", err, going.Status)
	}
	hold()
	if _, err := k.CoreV1().Pods("default").Get(ctx, "e", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("still there: %v", err)
	}
	b, err := k.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "b", metav1.GetOptions{})
	if err != nil || b.Status.DisruptionsAllowed != 0 || len(b.Status.DisruptedPods) != 1 {
		t.Errorf("budget: %v %+v", err, b.Status)
	}
}

func TestReviews(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot", Namespace: "default"}}
	if _, err := client.Create(ctx, s.Client, sa); err != nil {
		t.Fatal(err)
	}
	req, err := k.CoreV1().ServiceAccounts("default").CreateToken(ctx, "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil || req.Status.Token == "" {
		t.Fatalf("token: %v", err)
	}
	tr, err := k.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: req.Status.Token}}, metav1.CreateOptions{})
	if err != nil || !tr.Status.Authenticated || tr.Status.User.Username != "system:serviceaccount:default:robot" {
		t.Errorf("token review: %v %+v", err, tr)
	}
	tr, err = k.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "garbage"}}, metav1.CreateOptions{})
	if err != nil || tr.Status.Authenticated {
		t.Errorf("garbage token: %v %+v", err, tr)
	}
	who, err := k.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username == "" {
		t.Errorf("self: %v %+v", err, who)
	}
	can, err := k.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}}}, metav1.CreateOptions{})
	if err != nil || !can.Status.Allowed {
		t.Errorf("self access: %v %+v", err, can)
	}
	sar, err := k.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "jane", ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}}}, metav1.CreateOptions{})
	if err != nil || sar.Status.Allowed {
		t.Errorf("access: %v %+v", err, sar)
	}
	lsar, err := k.AuthorizationV1().LocalSubjectAccessReviews("default").Create(ctx, &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "jane", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "default", Verb: "get", Resource: "pods"}}}, metav1.CreateOptions{})
	if err != nil || lsar.Status.Allowed {
		t.Errorf("local access: %v %+v", err, lsar)
	}
	rules, err := k.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "default"}}, metav1.CreateOptions{})
	if err != nil || len(rules.Status.ResourceRules) == 0 {
		t.Errorf("rules: %v %+v", err, rules)
	}
}
