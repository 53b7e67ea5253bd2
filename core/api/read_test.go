package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/store"
)

func ask(t testing.TB, s *apitest.Server, method, path, body string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.HTTP(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, out
}

func makeConfigMaps(t testing.TB, k kubernetes.Interface, namespace string, n int, data string) {
	t.Helper()
	for i := range n {
		cm := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cm-%03d", i), Labels: map[string]string{"odd": fmt.Sprint(i % 2)}},
			Data:       map[string]string{"d": data},
		}
		if _, err := k.CoreV1().ConfigMaps(namespace).Create(context.Background(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListPages(t *testing.T) {
	_, k := clients(t)
	ctx := context.Background()
	makeConfigMaps(t, k, "default", 7, "x")
	cms := k.CoreV1().ConfigMaps("default")
	first, err := cms.List(ctx, metav1.ListOptions{Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Items) != 3 || first.Continue == "" || first.RemainingItemCount == nil || *first.RemainingItemCount != 4 {
		t.Fatalf("first page: %d items, continue %q, remaining %v", len(first.Items), first.Continue, first.RemainingItemCount)
	}
	// Pages are of one revision whatever happens between them.
	if err := cms.Delete(ctx, "cm-005", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for page := first; ; {
		for _, i := range page.Items {
			names = append(names, i.Name)
		}
		if page.Continue == "" {
			break
		}
		if page, err = cms.List(ctx, metav1.ListOptions{Limit: 3, Continue: page.Continue}); err != nil {
			t.Fatal(err)
		}
		if page.ResourceVersion != first.ResourceVersion {
			t.Errorf("page of revision %s, want %s", page.ResourceVersion, first.ResourceVersion)
		}
	}
	if len(names) != 7 {
		t.Errorf("names: %v", names)
	}
	odd, err := cms.List(ctx, metav1.ListOptions{LabelSelector: "odd=1", Limit: 1})
	if err != nil || len(odd.Items) != 1 || odd.Continue == "" || odd.RemainingItemCount != nil {
		t.Errorf("selected page: %v %+v", err, odd.ListMeta)
	}
	one, err := cms.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=cm-002"})
	if err != nil || len(one.Items) != 1 {
		t.Errorf("by name: %v, %d items", err, len(one.Items))
	}
}

func TestRefusedReads(t *testing.T) {
	s, _ := clients(t)
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/api/v1/pods?fieldSelector=spec.foo%3Dx":                    {400, `field label not supported: spec.foo`},
		"/api/v1/configmaps?fieldSelector=data%3Dx":                  {400, `\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"`},
		"/api/v1/pods?labelSelector=a%20b":                           {400, `unable to parse requirement`},
		"/api/v1/pods?resourceVersion=abc":                           {400, `resourceVersion`},
		"/api/v1/pods?resourceVersionMatch=Exact":                    {422, `resourceVersionMatch is forbidden unless resourceVersion is provided`},
		"/api/v1/pods?continue=%25%25":                               {400, `continue key is not valid`},
		"/api/v1/pods?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ":       {400, `continue key is not valid`},
		"/api/v1/pods?watch=1&sendInitialEvents=true":                {422, `sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`},
		"/api/v1/namespaces/default/pods/none":                       {404, `pods \"none\" not found`},
		"/api/v1/namespaces/default/nothing":                         {404, `the server could not find the requested resource`},
		"/api/v1/namespaces/default/nodes":                           {404, `the server could not find the requested resource`},
		"/api/v1/namespaces/default/pods/none/nothing":               {404, `the server could not find the requested resource`},
		"/api/v1/pods?resourceVersion=999999999&timeout=10s":         {504, `Too large resource version`},
		"/api/v1/namespaces/default/configmaps/x?resourceVersion=-1": {400, `resourceVersion`},
	} {
		code, _, body := ask(t, s, "GET", path, "")
		if code != want.code || !strings.Contains(string(body), want.text) {
			t.Errorf("GET %s: got %d %s, want %d %s", path, code, body, want.code, want.text)
		}
		var st metav1.Status
		if err := json.Unmarshal(body, &st); err != nil || st.Kind != "Status" || int(st.Code) != code {
			t.Errorf("GET %s: not a Status: %s", path, body)
		}
	}
	review := `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`
	table := "application/json;as=Table;v=v1;g=meta.k8s.io"
	for accept, want := range map[string]int{table: 406, table + ", application/json": 201} {
		code, _, body := ask(t, s, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, "Accept", accept, "Content-Type", "application/json")
		if code != want || want == 201 && !strings.Contains(string(body), `"allowed":true`) {
			t.Errorf("a review with Accept %s: got %d %s, want %d", accept, code, body, want)
		}
	}
	if code, _, body := ask(t, s, "GET", "/api/v1/pods", "", "Accept", "text/html"); code != 406 {
		t.Errorf("Accept text/html: %d %s", code, body)
	}
}

func TestMediaTypes(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	makeConfigMaps(t, k, "default", 3, strings.Repeat("x", 50_000))
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		cfg := rest.CopyConfig(s.REST)
		cfg.ContentType, cfg.AcceptContentTypes = media, media
		k, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		list, err := k.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.namespace=default"})
		if err != nil || len(list.Items) != 3 || list.ResourceVersion == "" || list.Items[2].Data["d"][49_999] != 'x' {
			t.Errorf("%s: list: %v, %d items", media, err, len(list.Items))
		}
		w, err := k.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			t.Fatal(err)
		}
		made, err := k.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "gen-"}}, metav1.CreateOptions{})
		if err != nil || len(made.Name) != len("gen-")+5 {
			t.Fatalf("%s: create: %v", media, err)
		}
		ev := <-w.ResultChan()
		if got, ok := ev.Object.(*corev1.ConfigMap); !ok || got.Name != made.Name {
			t.Errorf("%s: watch: %+v", media, ev)
		}
		w.Stop()
		if err := k.CoreV1().ConfigMaps("default").Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("%s: delete: %v", media, err)
		}
		if _, err := k.CoreV1().ConfigMaps("default").Get(ctx, made.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s: get: %v", media, err)
		}
	}
	code, h, body := ask(t, s, "GET", "/api/v1/namespaces/default/configmaps", "", "Accept-Encoding", "gzip")
	if code != 200 || h.Get("Content-Encoding") != "gzip" {
		t.Fatalf("big list not compressed: %d %v", code, h)
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var list corev1.ConfigMapList
	if err := json.NewDecoder(zr).Decode(&list); err != nil || len(list.Items) != 3 {
		t.Errorf("compressed list: %v", err)
	}
	if code, h, body := ask(t, s, "GET", "/api/v1/namespaces/default", "", "Accept", "application/yaml"); code != 200 || h.Get("Content-Type") != "application/yaml" || !strings.Contains(string(body), "kind: Namespace") {
		t.Errorf("yaml: %d %v %s", code, h, body)
	}
	if code, _, body := ask(t, s, "GET", "/api/v1/namespaces", "", "Accept", "application/yaml"); code != 200 || !strings.Contains(string(body), "kind: NamespaceList") {
		t.Errorf("yaml list: %d %s", code, body)
	}
	code, _, body = ask(t, s, "POST", "/api/v1/namespaces/default/configmaps", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-yaml}\n", "Content-Type", "application/yaml")
	if code != 201 {
		t.Errorf("yaml create: %d %s", code, body)
	}
	if code, _, body := ask(t, s, "POST", "/api/v1/namespaces/default/configmaps", "x", "Content-Type", "text/plain"); code != 415 {
		t.Errorf("text create: %d %s", code, body)
	}
}

func TestTable(t *testing.T) {
	s, k := clients(t)
	makeConfigMaps(t, k, "default", 2, "x")
	const accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	for path, rows := range map[string]int{
		"/api/v1/namespaces/default/configmaps":                      2,
		"/api/v1/namespaces/default/configmaps/cm-001":               1,
		"/apis/apps/v1/deployments":                                  0,
		"/api/v1/namespaces/default/configmaps?limit=1":              1,
		"/apis/apiserver.nothing/v1/things":                          -1,
		"/api/v1/namespaces/default/configmaps?includeObject=Object": 2,
	} {
		code, _, body := ask(t, s, "GET", path, "", "Accept", accept)
		if rows < 0 {
			if code != 404 {
				t.Errorf("%s: %d", path, code)
			}
			continue
		}
		var table metav1.Table
		if err := json.Unmarshal(body, &table); err != nil || table.Kind != "Table" || len(table.Rows) != rows || len(table.ColumnDefinitions) == 0 {
			t.Errorf("%s: %v: %s", path, err, body)
			continue
		}
		if rows > 0 {
			if table.Rows[0].Cells[0] != "cm-000" && table.Rows[0].Cells[0] != "cm-001" {
				t.Errorf("%s: cells %v", path, table.Rows[0].Cells)
			}
			want := "PartialObjectMetadata"
			if strings.Contains(path, "includeObject") {
				want = "ConfigMap"
			}
			if !strings.Contains(string(table.Rows[0].Object.Raw), `"kind":"`+want+`"`) {
				t.Errorf("%s: row object %s", path, table.Rows[0].Object.Raw)
			}
		}
	}
	code, _, body := ask(t, s, "GET", "/api/v1/namespaces/default/configmaps/none", "", "Accept", accept)
	if code != 404 || !strings.Contains(string(body), `"kind":"Status"`) {
		t.Errorf("missing object as a table: %d %s", code, body)
	}
}

func TestPartialMetadata(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	makeConfigMaps(t, k, "default", 2, "x")
	m, err := metadata.NewForConfig(s.REST)
	if err != nil {
		t.Fatal(err)
	}
	cms := m.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
	list, err := cms.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 || list.Items[0].Name != "cm-000" {
		t.Fatalf("list: %v %+v", err, list)
	}
	w, err := cms.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := cms.Delete(ctx, "cm-000", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ev := <-w.ResultChan()
	if o, ok := ev.Object.(*metav1.PartialObjectMetadata); !ok || ev.Type != watch.Deleted || o.Name != "cm-000" {
		t.Errorf("watch: %+v", ev)
	}
}

func TestWatchInitialEvents(t *testing.T) {
	_, k := clients(t)
	ctx := context.Background()
	makeConfigMaps(t, k, "default", 2, "x")
	yes := true
	w, err := k.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var got []string
	for ev := range w.ResultChan() {
		cm := ev.Object.(*corev1.ConfigMap)
		got = append(got, string(ev.Type)+" "+cm.Name)
		if ev.Type == watch.Bookmark {
			if cm.Annotations[metav1.InitialEventsAnnotationKey] != "true" || cm.ResourceVersion == "" {
				t.Errorf("bookmark: %+v", cm)
			}
			break
		}
	}
	if strings.Join(got, ",") != "ADDED cm-000,ADDED cm-001,BOOKMARK " {
		t.Errorf("events: %v", got)
	}
}

func TestWatchEnds(t *testing.T) {
	s, k := clients(t)
	ctx := context.Background()
	second := int64(3)
	w, err := k.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{TimeoutSeconds: &second, AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	start, bookmarks := time.Now(), 0
	for ev := range w.ResultChan() {
		if ev.Type != watch.Bookmark {
			t.Errorf("event %+v", ev)
		}
		// One ends the initial state, one comes before the end.
		bookmarks++
	}
	if took := time.Since(start); took < 2*time.Second || took > 10*time.Second || bookmarks != 2 {
		t.Errorf("watch of 3 s ended after %v with %d bookmarks", took, bookmarks)
	}
	code, _, body := ask(t, s, "GET", "/api/v1/watch/namespaces/default/configmaps?timeoutSeconds=1", "")
	if code != 200 {
		t.Errorf("legacy watch: %d %s", code, body)
	}
}

func TestWatchOfTheForgottenPast(t *testing.T) {
	_, k := clients(t, apitest.WithStore(func(c *store.Config) { c.RingEvents = 128 }))
	ctx := context.Background()
	cms := k.CoreV1().ConfigMaps("default")
	list, err := cms.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	makeConfigMaps(t, k, "default", 200, "x")
	w, err := cms.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	ev := <-w.ResultChan()
	if st, ok := ev.Object.(*metav1.Status); !ok || ev.Type != watch.Error || st.Code != 410 || st.Reason != metav1.StatusReasonExpired {
		t.Errorf("got %+v", ev)
	}
}

func TestExpiredContinue(t *testing.T) {
	_, k := clients(t, apitest.WithStore(func(c *store.Config) { c.RingAge, c.KeepFor = time.Millisecond, time.Millisecond; c.RingEvents = 128 }))
	ctx := context.Background()
	makeConfigMaps(t, k, "default", 3, "x")
	cms := k.CoreV1().ConfigMaps("default")
	page, err := cms.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		if _, err := cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("z-%04d", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := cms.List(ctx, metav1.ListOptions{Limit: 1, Continue: page.Continue})
		if err == nil {
			continue
		}
		st, ok := err.(apierrors.APIStatus)
		if !ok || !apierrors.IsResourceExpired(err) || st.Status().ListMeta.Continue == "" {
			t.Fatalf("got %v", err)
		}
		rest, err := cms.List(ctx, metav1.ListOptions{Continue: st.Status().ListMeta.Continue})
		if err != nil || rest.Items[0].Name != "cm-001" || len(rest.Items) < 3 {
			t.Errorf("inconsistent rest: %v, %d items", err, len(rest.Items))
		}
		return
	}
	t.Error("the continue token never expired")
}
