package alerting

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v2"

	"binnacle.io/core/telemetry"
)

// ruleTests is the part of promtool's format for rule tests that ours use.
type ruleTests struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []struct {
		Name     string         `yaml:"name"`
		Interval model.Duration `yaml:"interval"`
		Series   []struct {
			Series string `yaml:"series"`
			Values string `yaml:"values"`
		} `yaml:"input_series"`
		Alerts []struct {
			At     model.Duration `yaml:"eval_time"`
			Name   string         `yaml:"alertname"`
			Expect []struct {
				Labels      map[string]string `yaml:"exp_labels"`
				Annotations map[string]string `yaml:"exp_annotations"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// TestDefaultRules runs testdata/rules and demands that every built-in alert
// fires in one of them.
func TestDefaultRules(t *testing.T) {
	fired := map[string]bool{}
	files, err := filepath.Glob("testdata/rules/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tests ruleTests
		if err := yaml.UnmarshalStrict(text, &tests); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		source := fromDefault + filepath.Base(tests.RuleFiles[0])
		for _, tc := range tests.Tests {
			t.Run(filepath.Base(file)+"/"+tc.Name, func(t *testing.T) {
				load := fmt.Sprintf("load %s\n", tc.Interval)
				for _, s := range tc.Series {
					load += fmt.Sprintf("  %s %s\n", s.Series, s.Values)
				}
				st := promqltest.LoadedStorage(t, load)
				engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
				m := rules.NewManager(&rules.ManagerOptions{
					QueryFunc: rules.EngineQueryFunc(engine, st), Appendable: st, Queryable: st,
					NotifyFunc:  func(context.Context, string, ...*rules.Alert) {},
					GroupLoader: testLoader(),
				})
				groups, errs := m.LoadGroups(time.Duration(tests.EvaluationInterval), labels.EmptyLabels(), "", nil, false, source)
				if errs != nil {
					t.Fatal(errs)
				}
				now := time.Unix(0, 0).UTC()
				for _, want := range tc.Alerts {
					end := time.Unix(0, 0).UTC().Add(time.Duration(want.At))
					if end.Before(now.Add(-time.Duration(tests.EvaluationInterval))) {
						groups, _ = m.LoadGroups(time.Duration(tests.EvaluationInterval), labels.EmptyLabels(), "", nil, false, source)
						now = time.Unix(0, 0).UTC()
					}
					for ; !now.After(end); now = now.Add(time.Duration(tests.EvaluationInterval)) {
						for _, g := range groups {
							g.Eval(t.Context(), now)
						}
					}
					var got, exp []string
					known := false
					for _, g := range groups {
						for _, r := range g.AlertingRules() {
							if r.LastError() != nil {
								t.Errorf("%s: %v", r.Name(), r.LastError())
							}
							if r.Name() != want.Name {
								continue
							}
							known = true
							for _, a := range r.ActiveAlerts() {
								if a.State == rules.StateFiring {
									got = append(got, fmt.Sprint(a.Labels.Map(), a.Annotations.Map()))
									fired[want.Name] = true
								}
							}
						}
					}
					if !known {
						t.Errorf("no alert %q", want.Name)
					}
					for _, e := range want.Expect {
						l := maps.Clone(e.Labels)
						l["alertname"] = want.Name
						exp = append(exp, fmt.Sprint(l, e.Annotations))
					}
					slices.Sort(got)
					slices.Sort(exp)
					if !slices.Equal(got, exp) {
						t.Errorf("%s at %s:\n got %s\nwant %s", want.Name, want.At, strings.Join(got, "\n     "), strings.Join(exp, "\n     "))
					}
				}
			})
		}
	}
	l := testLoader()
	sources, err := l.sources(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		groups, errs := l.Load(s, false, model.UTF8Validation)
		if errs != nil {
			t.Fatal(errs)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				if !fired[r.Alert] {
					t.Errorf("%s: alert %s fires in no test", s, r.Alert)
				}
				if sev := r.Labels["severity"]; sev != "critical" && sev != "warning" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
					t.Errorf("%s: alert %s lacks severity, summary or description", s, r.Alert)
				}
			}
		}
	}
}

func testLoader() *ruleLoader {
	return &ruleLoader{parser: parser.NewParser(parser.Options{}), log: telemetry.Discard().Log, objects: map[string][]byte{}}
}

func TestRuleRefusals(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"groups: [{name: g, rules: [{alert: A, expr: 'up =='}]}]":                          "parse error",
		"groups: [{name: g, rules: [{alert: A, expr: up, unknown: 1}]}]":                   "field unknown not found",
		"groups: [{name: g, interval: 100ms, rules: [{alert: A, expr: up}]}]":              "shorter than 1s",
		"groups: [{name: g, rules: [{alert: A, record: b, expr: up}]}]":                    "only one of",
		"groups: [{name: g, rules: [{alert: A, expr: up, labels: {x: '{{ $labels.y '}}]}]": "template",
	} {
		file := filepath.Join(dir, "r.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := testLoader().check([]string{file})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := testLoader().sources(Config{RuleFiles: []string{filepath.Join(dir, "none.yml")}}); err == nil {
		t.Error("a missing rule file is no error")
	}
	if got, err := testLoader().sources(Config{NoDefaultRules: true, RuleFiles: []string{filepath.Join(dir, "*.none")}}); err != nil || len(got) != 0 {
		t.Errorf("pattern without files: %v %v", got, err)
	}
}
