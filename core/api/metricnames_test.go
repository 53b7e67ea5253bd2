package api_test

import (
	"bufio"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMetricNames holds the metrics against those of upstream's API server,
// testdata/metrics.txt: a line is a name, its labels, and whether it is here.
//
//	=  here, with these labels
//	?  here with these labels once it has happened
//	-  not here, and why
func TestMetricNames(t *testing.T) {
	s, k := clients(t)
	ctx := t.Context()
	if _, err := k.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/configmaps", "/api/v1/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
		"/apis/extensions/v1beta1/namespaces/default/deployments/x", "/api/v1/nodes/none"} {
		ask(t, s, "GET", path, "")
	}
	ask(t, s, "GET", "/api/v1/nodes/none", "", "Impersonate-User", "jane")
	have := map[string]string{}
	for _, c := range s.Hub.Components() {
		families, err := c.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			labels := map[string]bool{}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = true
				}
			}
			have[f.GetName()] = strings.Join(slices.Sorted(maps.Keys(labels)), ",")
		}
	}
	file, err := os.Open(filepath.Join("testdata", "metrics.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	known := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.SplitN(line, " ", 4)
		if len(words) < 3 {
			t.Fatalf("line %q", line)
		}
		mark, name, labels := words[0], words[1], strings.Trim(words[2], "{}")
		known[name] = true
		got, ok := have[name]
		switch {
		case mark == "-" && ok:
			t.Errorf("%s is here now", name)
		case mark == "=" && !ok:
			t.Errorf("%s is not here", name)
		case mark != "-" && ok && got != labels:
			t.Errorf("%s has the labels %s, upstream %s", name, got, labels)
		}
	}
	for name, labels := range have {
		if !known[name] && !strings.HasPrefix(name, "binnacle_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s{%s} is not in the list", name, labels)
		}
	}
}
