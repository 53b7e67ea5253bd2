package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"binnacle.io/core/api"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

type admin struct{}

func (admin) Authenticate(*http.Request) (*auth.User, bool, error) {
	return &auth.User{Name: "fuzz", Groups: []string{auth.GroupMasters}}, true, nil
}

// FuzzRequest sends anything to the HTTP door: no input may panic or be
// answered with 500.
func FuzzRequest(f *testing.F) {
	const cms, deps = "/api/v1/namespaces/default/configmaps", "/apis/apps/v1/namespaces/default/deployments"
	js, proto := "application/json", "application/vnd.kubernetes.protobuf"
	add := func(method, path, query, contentType, accept, body string) {
		f.Add(method, path, query, contentType, accept, []byte(body))
	}
	add("POST", cms, "fieldValidation=Strict", js, "", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"x":"y"}},"data":{"a":"b"}}`)
	add("POST", cms, "", "application/yaml", "application/yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n")
	add("POST", cms, "", proto, proto, "k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x08\x0a\x06\x0a\x04fuzz")
	add("POST", deps, "dryRun=All", js, "", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","managedFields":[{"manager":"x","fieldsV1":{"f:a":7}}],"ownerReferences":[{}]},"spec":{"selector":{"matchExpressions":[{"key":"a","operator":"In"}]},"template":{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1e99"}}}]}}}}`)
	add("PATCH", deps+"/d", "", "application/json-patch+json", "", `[{"op":"copy","from":"/spec","path":"/spec/template/-"},{"op":"test"}]`)
	add("PATCH", deps+"/d", "", "application/merge-patch+json", "", `{"spec":{"replicas":null,"template":{"spec":{"containers":[null]}}}}`)
	add("PATCH", deps+"/d", "", "application/strategic-merge-patch+json", "", `{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":1}],"containers":[{"$patch":"delete"}]}}}}`)
	add("PATCH", deps+"/d", "fieldManager=f&force=1", "application/apply-patch+yaml", "", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[{"name":"c"},{"name":"c"}]}}}}`)
	add("PATCH", deps+"/d/scale", "", "application/merge-patch+json", "", `{"spec":{"replicas":-5}}`)
	add("PATCH", deps+"/d/status", "", "application/merge-patch+json", "", `{"status":{"conditions":[{"type":7}]}}`)
	add("GET", cms, "labelSelector=a+in+(b,c),!d&fieldSelector=metadata.name!%3Da&limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0", "", "application/json;as=Table;v=v1;g=meta.k8s.io", "")
	add("GET", cms, "watch=1&timeoutSeconds=1&resourceVersion=1", "", "application/vnd.kubernetes.protobuf;stream=watch", "")
	add("DELETE", cms, "labelSelector=zz", js, "", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Sideways","preconditions":{}}`)
	add("DELETE", cms+"/x", "gracePeriodSeconds=-1", "", "", "")
	add("POST", "/api/v1/namespaces/default/pods/p/eviction", "", js, "", `{"apiVersion":"policy/v1beta1","kind":"Eviction"}`)
	add("POST", "/api/v1/namespaces/default/pods/p/binding", "", js, "", `{"apiVersion":"v1","kind":"Binding","target":{}}`)
	add("POST", "/api/v1/namespaces/default/bindings", "", js, "", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"name":"n"}}`)
	add("GET", "/api/v1/namespaces/default/pods/p/exec", "command=a&stdin=1", "", "", "")
	add("GET", "/api/v1/namespaces/default/services/http:s:80/proxy/a/../b", "", "", "", "")
	add("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "", js, "", `{"spec":{"user":"x","nonResourceAttributes":{}}}`)
	add("PUT", "/api/v1/namespaces/default/finalize", "", js, "", `{"metadata":{"name":"default"}}`)
	add("GET", "/apis//v1/x", "", "", ",;q=x,application/json;q=0", "")

	h := fuzzed(f)
	f.Fuzz(func(t *testing.T, method, path, query, contentType, accept string, body []byte) {
		h.ask(t, method, path, query, contentType, accept, body)
	})
}

// FuzzPatch sends patches of every type to an object and to its subresources.
func FuzzPatch(f *testing.F) {
	types := []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"}
	paths := []string{"", "/status", "/scale"}
	for _, body := range append(stormBodies(),
		`[{"op":"move","from":"/spec/template/spec/containers/0","path":"/spec/template/spec/containers/-"},{"op":"replace","path":""}]`,
		`{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"c"}],"$deleteFromPrimitiveList/x":[1],"containers":[{"$patch":"replace"},{"name":"c","ports":[{"containerPort":1}]}]}}}}`,
		`{"spec":{"strategy":{"$retainKeys":["type",7],"type":"Recreate"}}}`,
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: c, image: j}, {name: c}]}}}\n",
	) {
		for i := range types {
			f.Add(byte(i), byte(i), "fieldManager=f&force=true", []byte(body))
		}
	}
	h := fuzzed(f)
	f.Fuzz(func(t *testing.T, media, sub byte, query string, body []byte) {
		h.ask(t, "PATCH", "/apis/apps/v1/namespaces/default/deployments/d"+paths[int(sub)%len(paths)], query+"&dryRun=All", types[int(media)%len(types)], "", body)
	})
}

// FuzzSelect sends what lists and watches are asked with.
func FuzzSelect(f *testing.F) {
	for _, q := range stormQueries() {
		f.Add(q, "a in (b,c),!d,e>5", "metadata.name!=x,status.phase=Running", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0", "application/json;as=Table;v=v1;g=meta.k8s.io,*/*;q=0.1")
	}
	h := fuzzed(f)
	f.Fuzz(func(t *testing.T, query, labels, fields, more, accept string) {
		q := url.Values{"labelSelector": {labels}, "fieldSelector": {fields}, "continue": {more}}
		h.ask(t, "GET", "/api/v1/namespaces/default/pods", query+"&"+q.Encode(), "", accept, nil)
		h.ask(t, "DELETE", "/api/v1/namespaces/default/pods", query+"&dryRun=All&"+q.Encode(), "", accept, nil)
	})
}

// door is a handler whose requests come from an administrator.
type door struct{ http.Handler }

// fuzzed starts a server with a Deployment and a Pod in it.
func fuzzed(f *testing.F) door {
	s := apitest.Start(f)
	srv, err := api.New(api.Config{MinWatchTimeout: 1}, s.Store, s.Kinds, admin{}, auth.Masters(), s.Chain, s.Hub.Component("fuzz", "fuzz"))
	if err != nil {
		f.Fatal(err)
	}
	d, p := deployment("d", 0), pod("p")
	d.Namespace, p.Namespace = "default", "default"
	for _, o := range []client.Object{d, p} {
		if _, err := client.Create(f.Context(), s.Client, o); err != nil {
			f.Fatal(err)
		}
	}
	return door{srv.Handler()}
}

// ask sends a request, which may be answered with anything but 500.
func (d door) ask(t *testing.T, method, path, query, contentType, accept string, body []byte) {
	t.Helper()
	if strings.Contains(query, "watch") || strings.Contains(path, "watch") {
		query += "&timeoutSeconds=1"
	}
	within, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	r := httptest.NewRequestWithContext(within, "GET", "/", strings.NewReader(string(body)))
	r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if w.Code == http.StatusInternalServerError {
		t.Errorf("%s %s?%s (%s) %q: 500 %s", method, path, query, contentType, body, w.Body)
	}
}
