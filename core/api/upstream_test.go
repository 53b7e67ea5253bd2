package api_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// upstream makes the tests that compare with golden files write these anew:
// go test ./core/api -run Upstream -upstream KUBECONFIG
var upstream = flag.String("upstream", "", "kubeconfig of an upstream cluster to record golden files from")

// answerer is an API server to compare: ours or upstream's.
type answerer struct {
	url  string
	http *http.Client
}

func (a answerer) get(t testing.TB, path string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, a.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := a.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

func answererOf(t testing.TB, cfg *rest.Config) answerer {
	t.Helper()
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return answerer{strings.TrimSuffix(cfg.Host, "/"), h}
}

// recorded returns the lines of a golden file, after writing them anew from
// upstream when that is asked for.
func recorded(t testing.TB, name string, from func(answerer) []string) []string {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *upstream != "" {
		cfg, err := clientcmd.BuildConfigFromFlags("", *upstream)
		if err != nil {
			t.Fatal(err)
		}
		lines := from(answererOf(t, cfg))
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return lines
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// compare reports lines that only one side has, but for those which allowed
// gives a reason for. A reason that nothing needs is reported, too.
func compare(t testing.TB, want, got []string, allowed func(line string) (reason string)) {
	t.Helper()
	only := func(a, b []string) (out []string) {
		has := map[string]bool{}
		for _, l := range b {
			has[l] = true
		}
		for _, l := range a {
			if !has[l] && allowed(l) == "" {
				out = append(out, l)
			}
		}
		return out
	}
	missing, extra := only(want, got), only(got, want)
	for _, l := range missing {
		t.Errorf("upstream only: %s", l)
	}
	for _, l := range extra {
		t.Errorf("ours only:     %s", l)
	}
	if len(missing)+len(extra) > 0 {
		return
	}
	// Nothing differs: then what both have is in the same order.
	common := func(a, b []string) (out []string) {
		for _, l := range a {
			if slices.Contains(b, l) {
				out = append(out, l)
			}
		}
		return out
	}
	a, b := common(want, got), common(got, want)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("order differs at %d: upstream %q, ours %q", i, a[i], b[i])
			return
		}
	}
}

func listed(items []string) string { return fmt.Sprintf("[%s]", strings.Join(items, " ")) }
