package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/extend"
)

const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// legacyLines are the documents of /api, /apis and below, a line a resource.
func legacyLines(t testing.TB, a answerer) []string {
	var lines []string
	read := func(path string, into any) {
		code, h, body := a.get(t, path)
		if code != 200 {
			t.Fatalf("GET %s: %d %s", path, code, body)
		}
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		lines = append(lines, fmt.Sprintf("%s %s", path, h.Get("Content-Type")))
	}
	var versions metav1.APIVersions
	read("/api", &versions)
	lines = append(lines, fmt.Sprintf("/api %s %s %s", versions.Kind, versions.APIVersion, listed(versions.Versions)))
	var groups metav1.APIGroupList
	read("/apis", &groups)
	lines = append(lines, fmt.Sprintf("/apis %s %s", groups.Kind, groups.APIVersion))
	paths := []string{"/api/v1"}
	for _, g := range groups.Groups {
		lines = append(lines, fmt.Sprintf("/apis %s prefers %s", g.Name, g.PreferredVersion.GroupVersion))
		for _, v := range g.Versions {
			lines = append(lines, fmt.Sprintf("/apis %s %s", g.Name, v.GroupVersion))
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
		var one metav1.APIGroup
		read("/apis/"+g.Name, &one)
		lines = append(lines, fmt.Sprintf("/apis/%s %s %s prefers %s", one.Name, one.Kind, one.APIVersion, one.PreferredVersion.Version))
	}
	for _, path := range paths {
		var list metav1.APIResourceList
		read(path, &list)
		lines = append(lines, fmt.Sprintf("%s %s %q %s", path, list.Kind, list.APIVersion, list.GroupVersion))
		for _, r := range list.APIResources {
			lines = append(lines, fmt.Sprintf("%s %s %s singular=%s namespaced=%t of=%s/%s verbs=%s short=%s categories=%s hash=%s", path, r.Name, r.Kind,
				r.SingularName, r.Namespaced, r.Group, r.Version, listed(r.Verbs), listed(r.ShortNames), listed(r.Categories), r.StorageVersionHash))
		}
	}
	return lines
}

// aggregatedLines are the documents of aggregated discovery.
func aggregatedLines(t testing.TB, a answerer, accept string) []string {
	var lines []string
	for _, path := range []string{"/api", "/apis"} {
		code, h, body := a.get(t, path, "Accept", accept)
		if code != 200 {
			t.Fatalf("GET %s: %d %s", path, code, body)
		}
		var list apidiscoveryv2.APIGroupDiscoveryList
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s", path, list.Kind, list.APIVersion, h.Get("Content-Type")))
		for _, g := range list.Items {
			for _, v := range g.Versions {
				at := fmt.Sprintf("%s %s/%s", path, g.Name, v.Version)
				lines = append(lines, fmt.Sprintf("%s %s", at, v.Freshness))
				for _, r := range v.Resources {
					lines = append(lines, fmt.Sprintf("%s %s %v singular=%s scope=%s verbs=%s short=%s categories=%s", at, r.Resource, r.ResponseKind,
						r.SingularResource, r.Scope, listed(r.Verbs), listed(r.ShortNames), listed(r.Categories)))
					for _, s := range r.Subresources {
						lines = append(lines, fmt.Sprintf("%s %s/%s %v verbs=%s accepts=%v", at, r.Resource, s.Subresource, s.ResponseKind, listed(s.Verbs), s.AcceptedTypes))
					}
				}
			}
		}
	}
	return lines
}

// newer says why a line of discovery differs from upstream v1.36.
func newer(line string) string {
	for part, reason := range map[string]string{
		"customresourcedefinitions": "creating them is refused so far, and discovery says so",
		"clustertrustbundles":       "stable since v1.37",
		"podcertificaterequests":    "stable since v1.37",
		"devicetaintrules":          "stable since v1.37",
		"storagemigration.k8s.io":   "stable since v1.37",
	} {
		if strings.Contains(line, part) {
			return reason
		}
	}
	for _, old := range retiredGroupVersions {
		if strings.Contains(line, old) {
			return "kubectl must find the versions of old manifests"
		}
	}
	return ""
}

func TestDiscoveryIsUpstreams(t *testing.T) {
	s := apitest.Start(t)
	s.Kinds.Add(extend.CustomResourceDefinitions())
	ours := answererOf(t, s.REST)
	t.Run("legacy", func(t *testing.T) {
		want := recorded(t, "discovery.txt", func(a answerer) []string { return legacyLines(t, a) })
		compare(t, want, legacyLines(t, ours), newer)
	})
	t.Run("aggregated", func(t *testing.T) {
		want := recorded(t, "discovery_aggregated.txt", func(a answerer) []string { return aggregatedLines(t, a, aggregated) })
		compare(t, want, aggregatedLines(t, ours, aggregated), newer)
	})
}

// retiredGroupVersions are those that only old manifests name.
var retiredGroupVersions = []string{"extensions", "/v1beta1", "/v1beta2", "/v2beta"}
