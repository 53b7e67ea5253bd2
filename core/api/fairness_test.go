package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"binnacle.io/core/admission"
	"binnacle.io/core/api"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
)

// slowly keeps creates of ConfigMaps from going on until it is opened.
type slowly struct{ gate chan struct{} }

func (slowly) Name() string { return "Slowly" }
func (slowly) Handles(op admission.Operation, r client.Resource, sub string) bool {
	return op == admission.Create && r.Resource == "configmaps" && sub == ""
}
func (p slowly) Admit(ctx context.Context, a *admission.Attributes) error {
	if a.User.Name != "noisy" {
		return nil
	}
	select {
	case <-p.gate:
	case <-ctx.Done():
	}
	return nil
}

// as is a client that acts as somebody else, without limits of its own.
func as(t *testing.T, s *apitest.Server, user string, groups ...string) *kubernetes.Clientset {
	t.Helper()
	cfg := rest.CopyConfig(s.REST)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	cfg.QPS = -1
	k, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestNoisyClient: five hundred creates of one client that do not get on fill
// its seats and its queues and are refused then; the heartbeats of nodes do
// not notice.
func TestNoisyClient(t *testing.T) {
	gate := make(chan struct{})
	s, root := clients(t, apitest.WithAPI(func(c *api.Config) { c.MaxInFlight, c.MaxMutatingInFlight = 40, 20 }),
		apitest.WithPlugins(func(client.Client) []admission.Plugin { return []admission.Plugin{slowly{gate}} }))
	ctx := t.Context()
	if _, err := root.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "noisy"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "noisy"}, {Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:nodes"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	noisy, node := as(t, s, "noisy"), as(t, s, "system:node:n", "system:nodes")
	leases := node.CoordinationV1().Leases("kube-node-lease")
	var lease *coordinationv1.Lease
	var err error
	for range 1000 {
		// Until the binding is known to the authorizer.
		if lease, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var refused, made atomic.Int32
	enough := make(chan struct{}) // closed when so many are refused
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			// One try: client-go would come again after Retry-After.
			res := noisy.CoreV1().RESTClient().Post().Namespace("default").Resource("configmaps").MaxRetries(0).
				Body(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("noise-", i)}}).Do(ctx)
			switch {
			case res.Error() == nil:
				made.Add(1)
			case apierrors.IsTooManyRequests(res.Error()):
				if refused.Add(1) == 150 {
					close(enough)
				}
			default:
				t.Errorf("noisy: %v", res.Error())
			}
		})
	}
	// Six queues of fifty are one client's, and the level's few seats.
	select {
	case <-enough:
	case <-time.After(20 * time.Second):
		t.Errorf("%d of 500 refused", refused.Load())
	}
	slowest := time.Duration(0)
	for range 100 {
		start := time.Now()
		if lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
			t.Fatalf("heartbeat: %v", err)
		}
		slowest = max(slowest, time.Since(start))
	}
	if slowest > time.Second {
		t.Errorf("a heartbeat took %v", slowest)
	}
	t.Logf("%d refused; slowest heartbeat of 100 %v", refused.Load(), slowest)
	_, _, dump := ask(t, s, "GET", "/debug/api_priority_and_fairness/dump_priority_levels", "")
	if !strings.Contains(string(dump), "global-default") || !strings.Contains(string(dump), "node-high") {
		t.Errorf("dump: %s", dump)
	}
	_, _, dump = ask(t, s, "GET", "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1", "")
	if n := strings.Count(string(dump), "noisy,"); n < 200 {
		t.Errorf("%d requests of the noisy one in the dump", n)
	}
	_, _, text := ask(t, s, "GET", "/metrics", "")
	for _, want := range []string{
		`apiserver_flowcontrol_rejected_requests_total{flow_schema="global-default",priority_level="global-default",reason="queue-full"}`,
		`apiserver_flowcontrol_current_inqueue_requests{flow_schema="global-default",priority_level="global-default"} `,
		`apiserver_flowcontrol_request_wait_duration_seconds_count{execute="true",flow_schema="system-node-high",priority_level="node-high"}`,
		`apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"} 25`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
	close(gate)
	wg.Wait()
	if made.Load()+refused.Load() != 500 || made.Load() < 200 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
}

// TestFlowHeaders: every answer names schema and level; conditions say whether
// a schema leads somewhere; a new schema takes effect.
func TestFlowHeaders(t *testing.T) {
	s, k := clients(t)
	ctx := t.Context()
	fc := k.FlowcontrolV1()
	schemas, err := fc.FlowSchemas().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range schemas.Items {
		if len(f.Status.Conditions) != 1 || f.Status.Conditions[0].Status != flowcontrolv1.ConditionFalse || f.Status.Conditions[0].Reason != "Found" {
			t.Errorf("%s: conditions %+v", f.Name, f.Status.Conditions)
		}
	}
	headers := func() (string, string) {
		req, err := http.NewRequest("GET", s.URL+"/api/v1/namespaces/default/configmaps", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Impersonate-User", "jane")
		res, err := s.HTTP(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID), res.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID)
	}
	level, err := fc.PriorityLevelConfigurations().Get(ctx, "global-default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	schema, err := fc.FlowSchemas().Get(ctx, "global-default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if f, l := headers(); f != string(schema.UID) || l != string(level.UID) {
		t.Errorf("headers %q %q, want %q %q", f, l, schema.UID, level.UID)
	}
	own := schema.DeepCopy()
	own.ObjectMeta = metav1.ObjectMeta{Name: "jane"}
	own.Spec.MatchingPrecedence = 9000
	own.Spec.Rules[0].Subjects = []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: "jane"}}}
	if own, err = fc.FlowSchemas().Create(ctx, own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new schema is in force", func() bool { f, _ := headers(); return f == string(own.UID) })
	if _, err := fc.FlowSchemas().Patch(ctx, "jane", types.MergePatchType, []byte(`{"spec":{"priorityLevelConfiguration":{"name":"nowhere"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the schema is said to dangle", func() bool {
		f, err := fc.FlowSchemas().Get(ctx, "jane", metav1.GetOptions{})
		return err == nil && len(f.Status.Conditions) == 1 && f.Status.Conditions[0].Status == flowcontrolv1.ConditionTrue &&
			f.Status.Conditions[0].Message == `This FlowSchema references the PriorityLevelConfiguration object named "nowhere" but there is no such object`
	})
	if f, _ := headers(); f != string(schema.UID) {
		t.Error("a schema that dangles is used")
	}
}

// eventually waits for a condition that another part of the server brings
// about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("it never was so that %s", what)
		}
	}
}

// TestMandatory: what the cluster cannot do without cannot be changed, but for
// the shares of the exempt level.
func TestMandatory(t *testing.T) {
	s, _ := clients(t)
	const base = "/apis/flowcontrol.apiserver.k8s.io/v1/"
	for _, c := range []struct {
		path, patch string
		code        int
		text        string
	}{
		{"flowschemas/exempt", `{"spec":{"matchingPrecedence":2}}`, 422, `spec of 'exempt' must equal the fixed value`},
		{"flowschemas/catch-all", `{"spec":{"rules":[]}}`, 422, `spec of 'catch-all' must equal the fixed value`},
		{"prioritylevelconfigurations/catch-all", `{"spec":{"limited":{"nominalConcurrencyShares":7}}}`, 422, `spec of 'catch-all' must equal the fixed value`},
		{"prioritylevelconfigurations/exempt", `{"spec":{"exempt":{"nominalConcurrencyShares":7}}}`, 200, ``},
		{"flowschemas/global-default", `{"spec":{"matchingPrecedence":9901}}`, 200, ``},
	} {
		code, _, body := ask(t, s, "PATCH", base+c.path+"?dryRun=All", c.patch, "Content-Type", "application/merge-patch+json")
		if code != c.code || !strings.Contains(string(body), c.text) {
			t.Errorf("%s %s: %d %s, want %d %s", c.path, c.patch, code, body, c.code, c.text)
		}
	}
}

// TestFlowDefaults compares the default objects with those of upstream
// (testdata/flowcontrol.json, read from a running one).
func TestFlowDefaults(t *testing.T) {
	_, k := clients(t)
	text, err := os.ReadFile(filepath.Join("testdata", "flowcontrol.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Schemas []flowcontrolv1.FlowSchema                 `json:"flowSchemas"`
		Levels  []flowcontrolv1.PriorityLevelConfiguration `json:"priorityLevels"`
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	schemas, err := k.FlowcontrolV1().FlowSchemas().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	levels, err := k.FlowcontrolV1().PriorityLevelConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(schemas.Items) != len(want.Schemas) || len(levels.Items) != len(want.Levels) {
		t.Errorf("%d schemas, %d levels; upstream %d and %d", len(schemas.Items), len(levels.Items), len(want.Schemas), len(want.Levels))
	}
	const mark = flowcontrolv1.AutoUpdateAnnotationKey
	for _, w := range want.Schemas {
		for _, have := range schemas.Items {
			if have.Name == w.Name && (!equality.Semantic.DeepEqual(have.Spec, w.Spec) || have.Annotations[mark] != w.Annotations[mark]) {
				t.Errorf("%s: %+v %v, upstream %+v %v", w.Name, have.Spec, have.Annotations, w.Spec, w.Annotations)
			}
		}
	}
	for _, w := range want.Levels {
		for _, have := range levels.Items {
			if have.Name == w.Name && (!equality.Semantic.DeepEqual(have.Spec, w.Spec) || have.Annotations[mark] != w.Annotations[mark]) {
				t.Errorf("%s: %+v, upstream %+v", w.Name, have.Spec, w.Spec)
			}
		}
	}
}
