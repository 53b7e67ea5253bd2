package kind

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// readHub decodes a manifest of any served version, as stored and defaulted.
func readHub(t testing.TB, c *Catalogue, manifest string) (Object, *Version) {
	t.Helper()
	var tm struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal([]byte(manifest), &tm); err != nil {
		t.Fatal(err)
	}
	k, v, ok := c.ByKind(schema.FromAPIVersionAndKind(tm.APIVersion, tm.Kind))
	if !ok {
		t.Fatalf("%s %s is not in the catalogue", tm.APIVersion, tm.Kind)
	}
	var hub Object
	if v == nil {
		hub = k.New()
		if err := yaml.UnmarshalStrict([]byte(manifest), hub); err != nil {
			t.Fatalf("%s: %v", tm.Kind, err)
		}
	} else {
		old := v.New()
		if err := yaml.UnmarshalStrict([]byte(manifest), old); err != nil {
			t.Fatalf("%s: %v", tm.Kind, err)
		}
		var err error
		if hub, err = v.ToHub(old); err != nil {
			t.Fatal(err)
		}
	}
	if k.Default != nil {
		k.Default(hub)
	}
	return hub, v
}

// at finds ".a.b[0]" in an object's JSON.
func jsonAt(t *testing.T, o any, path string) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(strings.TrimPrefix(path, "."), ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			if len(x) == 0 {
				return "null"
			}
			v = x[0]
		default:
			return "null"
		}
	}
	if data, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestOldDefaults: a manifest of an old version means what it meant then. The
// values are those of the releases that served the versions.
func TestOldDefaults(t *testing.T) {
	template := "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}"
	for _, tc := range []struct {
		name, manifest string
		want           map[string]string
	}{
		{"extensions Deployment", "apiVersion: extensions/v1beta1\nkind: Deployment\nspec: {" + template + "}", map[string]string{
			".spec.selector.matchLabels.a": `"b"`, ".metadata.labels.a": `"b"`, ".spec.replicas": `1`,
			".spec.strategy.rollingUpdate.maxSurge": `1`, ".spec.strategy.rollingUpdate.maxUnavailable": `1`,
			".spec.revisionHistoryLimit": `2147483647`, ".spec.progressDeadlineSeconds": `2147483647`}},
		{"extensions Deployment that recreates", "apiVersion: extensions/v1beta1\nkind: Deployment\nspec: {strategy: {type: Recreate}, rollbackTo: {revision: 3}, " + template + "}", map[string]string{
			".spec.strategy.rollingUpdate": `null`, ".spec.strategy.type": `"Recreate"`}},
		{"apps/v1beta1 Deployment", "apiVersion: apps/v1beta1\nkind: Deployment\nspec: {" + template + "}", map[string]string{
			".spec.selector.matchLabels.a": `"b"`, ".spec.strategy.rollingUpdate.maxSurge": `"25%"`, ".spec.strategy.rollingUpdate.maxUnavailable": `"25%"`,
			".spec.revisionHistoryLimit": `2`, ".spec.progressDeadlineSeconds": `600`}},
		{"apps/v1beta2 Deployment", "apiVersion: apps/v1beta2\nkind: Deployment\nspec: {selector: {matchLabels: {a: b}}, " + template + "}", map[string]string{
			".spec.revisionHistoryLimit": `10`, ".spec.progressDeadlineSeconds": `600`, ".metadata.labels": `null`}},
		{"extensions ReplicaSet", "apiVersion: extensions/v1beta1\nkind: ReplicaSet\nspec: {" + template + "}", map[string]string{
			".spec.selector.matchLabels.a": `"b"`, ".spec.replicas": `1`}},
		{"extensions DaemonSet", "apiVersion: extensions/v1beta1\nkind: DaemonSet\nspec: {" + template + "}", map[string]string{
			".spec.updateStrategy.type": `"OnDelete"`, ".spec.revisionHistoryLimit": `10`, ".spec.selector.matchLabels.a": `"b"`}},
		{"apps/v1beta2 DaemonSet", "apiVersion: apps/v1beta2\nkind: DaemonSet\nspec: {selector: {matchLabels: {a: b}}, " + template + "}", map[string]string{
			".spec.updateStrategy.type": `"RollingUpdate"`}},
		{"apps/v1beta1 StatefulSet", "apiVersion: apps/v1beta1\nkind: StatefulSet\nspec: {serviceName: s, " + template + "}", map[string]string{
			".spec.updateStrategy.type": `"OnDelete"`, ".spec.podManagementPolicy": `"OrderedReady"`, ".spec.revisionHistoryLimit": `10`, ".spec.selector.matchLabels.a": `"b"`}},
		{"apps/v1beta2 StatefulSet", "apiVersion: apps/v1beta2\nkind: StatefulSet\nspec: {serviceName: s, selector: {matchLabels: {a: b}}, " + template + "}", map[string]string{
			".spec.updateStrategy.type": `"RollingUpdate"`, ".spec.updateStrategy.rollingUpdate.partition": `0`}},
		{"extensions Ingress", "apiVersion: extensions/v1beta1\nkind: Ingress\nspec: {backend: {serviceName: s, servicePort: 80}, rules: [{host: h, http: {paths: [{path: /x, backend: {serviceName: t, servicePort: web}}]}}]}", map[string]string{
			".spec.defaultBackend.service.name": `"s"`, ".spec.defaultBackend.service.port.number": `80`,
			".spec.rules.0.http.paths.0.pathType": `"ImplementationSpecific"`, ".spec.rules.0.http.paths.0.backend.service.port.name": `"web"`}},
		{"batch/v1beta1 CronJob", "apiVersion: batch/v1beta1\nkind: CronJob\nspec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}", map[string]string{
			".spec.concurrencyPolicy": `"Allow"`, ".spec.suspend": `false`, ".spec.successfulJobsHistoryLimit": `3`, ".spec.failedJobsHistoryLimit": `1`}},
		{"policy/v1beta1 budget of nothing", "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nspec: {minAvailable: 1, selector: {}}", map[string]string{
			".spec.selector.matchExpressions.0.operator": `"Exists"`, ".spec.minAvailable": `1`}},
		{"rbac binding", "apiVersion: rbac.authorization.k8s.io/v1beta1\nkind: ClusterRoleBinding\nroleRef: {kind: ClusterRole, name: r}\nsubjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s, namespace: n}]", map[string]string{
			".roleRef.apiGroup": `"rbac.authorization.k8s.io"`, ".subjects.0.apiGroup": `"rbac.authorization.k8s.io"`}},
		{"storage class", "apiVersion: storage.k8s.io/v1beta1\nkind: StorageClass\nprovisioner: x", map[string]string{
			".reclaimPolicy": `"Delete"`, ".volumeBindingMode": `"Immediate"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Builtin()
			hub, v := readHub(t, c, tc.manifest)
			for path, want := range tc.want {
				if got := jsonAt(t, hub, path); got != want {
					t.Errorf("%s is %s, want %s", path, got, want)
				}
			}
			if v == nil || !strings.Contains(v.Retired, "use ") {
				t.Errorf("the warning does not name today's version: %+v", v)
			}
			back, err := v.FromHub(hub)
			if err != nil {
				t.Fatal(err)
			}
			again, err := v.ToHub(back)
			if err != nil {
				t.Fatal(err)
			}
			again.GetObjectKind().SetGroupVersionKind(hub.GetObjectKind().GroupVersionKind())
			if !apiequality.Semantic.DeepEqual(hub, again) {
				t.Errorf("lost on the way back:\n%s", differ(hub, again))
			}
		})
	}
}

func TestRollbackIsKept(t *testing.T) {
	hub, v := readHub(t, Builtin(), "apiVersion: extensions/v1beta1\nkind: Deployment\nspec: {rollbackTo: {revision: 3}, template: {metadata: {labels: {a: b}}}}")
	if got := hub.GetAnnotations()[appsv1.DeprecatedRollbackTo]; got != "3" {
		t.Errorf("annotation %q", got)
	}
	back, err := v.FromHub(hub)
	if err != nil {
		t.Fatal(err)
	}
	if got := jsonAt(t, back, ".spec.rollbackTo.revision"); got != "3" {
		t.Errorf("revision %s", got)
	}
}

// TestRetiredVersionsOfEveryKind: each converts what any client may store, both
// ways, without an error, and warns.
func TestRetiredVersionsOfEveryKind(t *testing.T) {
	n := 0
	for _, k := range Builtin().All() {
		for i := range k.Versions {
			v := &k.Versions[i]
			if v.Retired == "" {
				continue
			}
			n++
			if !strings.HasPrefix(v.Retired, v.GroupVersion().String()+" "+v.Kind+" is deprecated in v1.") {
				t.Errorf("%s: warning %q", v.GroupVersionKind, v.Retired)
			}
			for seed := range int64(10) {
				o := k.New()
				fuzzed(seed).Fill(o)
				old, err := v.FromHub(o)
				if err != nil {
					t.Errorf("%s: %v", v.GroupVersionKind, err)
					continue
				}
				if old.GetObjectKind().GroupVersionKind() != v.GroupVersionKind {
					t.Errorf("%s: the object says it is %s", v.GroupVersionKind, old.GetObjectKind().GroupVersionKind())
				}
				if _, err := v.ToHub(old); err != nil {
					t.Errorf("%s: %v", v.GroupVersionKind, err)
				}
			}
		}
	}
	if n < 25 {
		t.Errorf("only %d retired versions", n)
	}
}

// TestUserManifests: what tutorials of the last decade tell people to apply is
// valid and has what today's controllers need.
func TestUserManifests(t *testing.T) {
	files, err := filepath.Glob("../../../shared/manifests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("SKIP: ../shared/manifests is not there: the manifests users bring were not tried")
	}
	c := Builtin()
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split("\n"+string(text), "\n---") {
			if strings.TrimSpace(doc) == "" || !strings.Contains(doc, "kind:") {
				continue
			}
			hub, _ := readHub(t, c, doc)
			k, err := c.Of(hub)
			if err != nil {
				t.Fatal(err)
			}
			if k.PrepareCreate != nil {
				k.PrepareCreate(hub)
			}
			if k.Validate != nil {
				if errs := k.Validate(hub); len(errs) > 0 {
					t.Errorf("%s: %s %s: %v", filepath.Base(f), k.Hub.Kind, hub.GetName(), errs.ToAggregate())
				}
			}
			switch k.Hub.Kind {
			case "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet":
				if jsonAt(t, hub, ".spec.selector.matchLabels") == "null" {
					t.Errorf("%s: %s %s has no selector", filepath.Base(f), k.Hub.Kind, hub.GetName())
				}
			}
		}
	}
}

// FuzzRetired reads anything as any retired version.
func FuzzRetired(f *testing.F) {
	c := Builtin()
	var all []*Version
	for _, k := range c.All() {
		for i := range k.Versions {
			all = append(all, &k.Versions[i])
		}
	}
	for i := range all {
		f.Add(uint(i), []byte(`{"metadata":{"name":"a","annotations":{"autoscaling.alpha.kubernetes.io/metrics":"[]","deprecated.deployment.rollback.to":"3"}},"spec":{"selector":{},"template":{"metadata":{"labels":{"a":"b"}}},"backend":{"serviceName":"s"},"rules":[{"http":{"paths":[{}]}}]},"webhooks":[{}],"endpoints":[{"topology":{"a":"b"}}]}`))
	}
	f.Fuzz(func(t *testing.T, which uint, body []byte) {
		v := all[which%uint(len(all))]
		old := v.New()
		if json.Unmarshal(body, old) != nil {
			return
		}
		hub, err := v.ToHub(old)
		if err != nil {
			return
		}
		if _, err := v.FromHub(hub); err != nil {
			t.Errorf("%s: %v", v.GroupVersionKind, err)
		}
	})
}
