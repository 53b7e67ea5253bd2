package differential

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "kubeconfig of an upstream API server, for TestRecord; of any server, for TestCorpus")
	only       = flag.String("only", "", "seed files to look at, by name, separated by commas")
	report     = flag.String("report", "", "file for the list of disagreements")
)

func selectedFiles(t *testing.T) []*seedFile {
	t.Helper()
	files, err := readSeeds(filepath.Join("testdata", "seeds"))
	if err != nil {
		t.Fatal(err)
	}
	if *only == "" {
		return files
	}
	names := strings.Split(*only, ",")
	return slices.DeleteFunc(files, func(f *seedFile) bool { return !slices.Contains(names, f.name) })
}

func corpusPath(f *seedFile) string { return filepath.Join("testdata", "corpus", f.name+".txt") }

func connect(t *testing.T, file string) *rest.Config {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRecord writes the corpus anew from what an upstream says.
func TestRecord(t *testing.T) {
	if *kubeconfig == "" {
		t.Skip("no -kubeconfig of an upstream to record")
	}
	c := connect(t, *kubeconfig)
	ctx := t.Context()
	var types *schemas
	for _, f := range selectedFiles(t) {
		r, err := newRunner(c, f)
		if err != nil {
			t.Fatal(err)
		}
		if types == nil {
			if types, err = fetchSchemas(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		version, err := r.must(ctx, "GET", "/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		requests, err := generate(f, types)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		cases, err := record(ctx, r, requests)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		header := fmt.Sprintf("What %s %s answers. Written by TestRecord.", f.name, text(version, "gitVersion"))
		data := formatCorpus(header, cases)
		again, err := parseCorpus(data)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		if !bytes.Equal(formatCorpus(header, again), data) {
			t.Errorf("%s: the corpus does not survive reading", f.name)
		}
		if err := os.WriteFile(corpusPath(f), data, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d cases", f.name, len(cases))
	}
}

// record asks the plain seeds first: what upstream makes of them is what the
// other answers are written against.
func record(ctx context.Context, r *runner, requests []request) ([]recorded, error) {
	defer func() { _ = r.tearDown(context.WithoutCancel(ctx)) }()
	if err := r.setUp(ctx); err != nil {
		return nil, err
	}
	var cases []recorded
	plain := slices.IndexFunc(requests, func(c request) bool { return needsLive(c) || len(c.changes) > 0 })
	if plain < 0 {
		plain = len(requests)
	}
	for _, part := range [][]request{requests[:plain], requests[plain:]} {
		answers, err := r.run(ctx, part)
		if err != nil {
			return nil, err
		}
		for i, a := range answers {
			if len(part[i].changes) == 0 && part[i].body == "" && a.code >= 300 {
				return nil, fmt.Errorf("seed refused: %s: %s", part[i], strings.Join(a.lines(), "\n  "))
			}
			cases = append(cases, recorded{part[i], a})
		}
		if err := r.learn(cases); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

// TestCorpus checks that Binnacle answers as upstream did.
func TestCorpus(t *testing.T) {
	var listed []*deliberation
	for _, name := range []string{"deliberate.txt", "open.txt"} {
		ds, err := readDeliberate(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, ds...)
	}
	var c *rest.Config
	if *kubeconfig != "" {
		c = connect(t, *kubeconfig)
	} else {
		// Upstream's are on where it was recorded, but the plugins that wait for
		// controllers.
		c = apitest.Start(t, apitest.WithPlugins(func(client.Client) []admission.Plugin {
			return []admission.Plugin{admission.NewStorageObjectInUseProtection(), admission.NewTaintNodesByCondition(), admission.NewExtendedResourceToleration(),
				admission.NewCertificateSigners(auth.NewAuthorizers(auth.Masters()))}
		})).REST
	}
	out := &summary{}
	t.Run("kinds", func(t *testing.T) {
		for _, f := range selectedFiles(t) {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				replay(t, c, f, listed, out)
			})
		}
	})
	if *only == "" {
		for _, d := range listed {
			if d.used.Load() == 0 {
				t.Errorf("listed as a disagreement, but all its cases agree: %s", d)
			}
		}
	}
	t.Log(out.total())
	if *report != "" {
		if err := os.WriteFile(*report, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func replay(t *testing.T, c *rest.Config, f *seedFile, listed []*deliberation, out *summary) {
	ctx := t.Context()
	data, err := os.ReadFile(corpusPath(f))
	if err != nil {
		t.Fatal(err)
	}
	cases, err := parseCorpus(data)
	if err != nil {
		t.Fatalf("%s: %v", corpusPath(f), err)
	}
	r, err := newRunner(c, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.learn(cases); err != nil {
		t.Fatal(err)
	}
	requests := make([]request, len(cases))
	for i, c := range cases {
		requests[i] = c.request
	}
	defer func() {
		if err := r.tearDown(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	if err := r.setUp(ctx); err != nil {
		out.fail(f.name, len(cases), err)
		t.Fatal(err)
	}
	answers, err := r.run(ctx, requests)
	if err != nil {
		out.fail(f.name, len(cases), err)
		t.Fatal(err)
	}
	for i, got := range answers {
		want := cases[i]
		v := judge(want.answer, got)
		line := want.request.String()
		d := deliberateFor(listed, f.name, line)
		switch {
		case d != nil && !v.agrees():
			d.used.Add(1)
			out.excuse()
			v = verdict{}
		case !v.agrees():
			t.Errorf("%s: %s\n%s", f.name, line, disagreement(v, want.answer, got))
		}
		out.add(f.name, line, v, want.answer, got)
	}
}
