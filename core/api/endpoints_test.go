package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/extend"
)

const (
	aggregatedBeta  = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
	aggregatedProto = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	protobuf        = "application/vnd.kubernetes.protobuf"
	openAPIv2Proto  = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	openAPIv3Proto  = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
)

// plainEndpoints are asked of both: path and Accept.
func plainEndpoints() [][2]string {
	asks := [][2]string{
		{"/", ""}, {"/nothing", ""}, {"/version", ""}, {"/version", "application/yaml"}, {"/version", "text/html"}, {"/version", "application/vnd.kubernetes.protobuf,application/json"}, {"/version", "application/*"}, {"/version/", ""},
		{"/healthz", ""}, {"/healthz?verbose", ""}, {"/healthz/ping", ""}, {"/healthz/etcd", ""}, {"/healthz/nothing", ""},
		{"/livez", ""}, {"/livez?verbose", ""}, {"/livez/ping", ""}, {"/livez/nothing", ""}, {"/livez/ping?verbose", ""},
		{"/readyz", ""}, {"/readyz?verbose", ""}, {"/readyz/ping", ""}, {"/readyz/shutdown", ""}, {"/readyz/nothing", ""},
		{"/readyz?verbose&exclude=ping", ""}, {"/readyz?exclude=nothing", ""}, {"/readyz?verbose&exclude=nothing", ""}, {"/readyz?verbose&exclude=nothing&exclude=none&exclude=ping", ""},
		{"/readyz", "application/json"}, {"/livez", "text/html"},
		{"/openapi/v2", "text/html"}, {"/openapi/v2", openAPIv2Proto}, {"/openapi/v2", ""}, {"/openapi/v2", "*/*"}, {"/openapi/v2", "application/json"},
		{"/openapi/v3", "text/html"}, {"/openapi/v3", ""}, {"/openapi/v3/apis/apps/v1", openAPIv3Proto}, {"/openapi/v3/apis/apps/v1", "application/json"},
		{"/openapi/v3/apis/apps/v1", ""}, {"/openapi/v3/apis/apps/v1", "text/html"}, {"/openapi/v3/apis/nothing/v1", ""}, {"/openapi/v3/apis/apps/v1?hash=wrong", "application/json"},
		{"/openapi", ""}, {"/apis/nothing", ""}, {"/apis/nothing/v1", ""}, {"/apis/apps/v9", ""}, {"/api/v2", ""}, {"/api/v1/", ""}, {"/apis/", ""}, {"/api/", ""},
	}
	for _, path := range []string{"/api", "/apis", "/apis/apps", "/apis/apps/v1"} {
		for _, accept := range []string{
			aggregated, aggregatedBeta, aggregatedProto, protobuf, "application/yaml", "text/html", "*/*",
			aggregated + ",application/json", "text/html," + aggregated, aggregatedBeta + ",application/json",
			"application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList",
			"application/json;as=Table;g=meta.k8s.io;v=v1",
		} {
			asks = append(asks, [2]string{path, accept})
		}
	}
	return asks
}

// endpointLines describe the answers; bodies only of what is not the same for
// being longer than it is interesting.
func endpointLines(t testing.TB, a answerer) []string {
	var lines []string
	for _, ask := range plainEndpoints() {
		var header []string
		if ask[1] != "" {
			header = []string{"Accept", ask[1]}
		}
		code, h, body := a.get(t, ask[0], header...)
		at := fmt.Sprintf("%s [%s] %d %s", ask[0], ask[1], code, h.Get("Content-Type"))
		var more []string
		// Ours varies by Accept-Encoding, too, wherever it compresses.
		if strings.Contains(strings.ReplaceAll(strings.Join(h.Values("Vary"), ","), "Accept-Encoding", ""), "Accept") {
			more = append(more, "Vary=Accept")
		}
		more = append(more, h.Get("Cache-Control"))
		for _, name := range []string{"Etag"} {
			if h.Get(name) != "" {
				more = append(more, name)
			}
		}
		lines = append(lines, at+" "+strings.Join(more, " "))
		lines = append(lines, bodyLines(ask[0], code, h.Get("Content-Type"), body)...)
	}
	return lines
}

func bodyLines(path string, code int, contentType string, body []byte) []string {
	if code >= 400 {
		var s metav1.Status
		if json.Unmarshal(body, &s) == nil && s.Kind == "Status" {
			return []string{fmt.Sprintf("  %s %s %q", path, s.Reason, s.Message)}
		}
	}
	switch {
	case path == "/version" && contentType == "application/json":
		var keys []string
		var v map[string]any
		_ = json.Unmarshal(body, &v) // then there are no keys
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		return []string{fmt.Sprintf("  %s %v %t", path, keys, strings.Contains(string(body), "\n"))}
	case strings.HasPrefix(path, "/openapi"):
	case strings.HasPrefix(contentType, "text/plain"):
		var lines []string
		for l := range strings.SplitSeq(string(body), "\n") {
			// The two have different parts to check.
			if !strings.HasPrefix(l, "[+]") || strings.HasPrefix(l, "[+]ping") || strings.HasPrefix(l, "[+]etcd ") {
				lines = append(lines, fmt.Sprintf("  %s %q", path, l))
			}
		}
		return lines
	}
	return nil
}

func TestEndpointsAreUpstreams(t *testing.T) {
	s := apitest.Start(t)
	s.Kinds.Add(extend.CustomResourceDefinitions())
	want := recorded(t, "endpoints.txt", func(a answerer) []string { return endpointLines(t, a) })
	compare(t, want, endpointLines(t, answererOf(t, s.REST)), func(string) string { return "" })
}
