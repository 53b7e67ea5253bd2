package alerting

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

//go:embed rules/*.yml
var defaultRules embed.FS

// Where rule groups come from shows as their file, with these prefixes for those
// that are not files.
const (
	fromDefault = "builtin:"
	fromObject  = "object:"
)

// ruleLoader finds rule groups for Prometheus' manager.
type ruleLoader struct {
	parser parser.Parser
	log    *slog.Logger

	mu      sync.Mutex
	objects map[string][]byte // by name
}

func (l *ruleLoader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }

func (l *ruleLoader) Load(source string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	text, err := l.read(source)
	if err != nil {
		return nil, []error{err}
	}
	groups, errs := rulefmt.Parse(text, ignoreUnknown, scheme, l.parser, l.log)
	for i, err := range errs {
		errs[i] = fmt.Errorf("%s: %w", source, err)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for _, g := range groups.Groups {
		if g.Interval != 0 && time.Duration(g.Interval) < minInterval {
			errs = append(errs, fmt.Errorf("%s: group %q: interval %s is shorter than %s", source, g.Name, g.Interval, minInterval))
		}
	}
	return groups, errs
}

func (l *ruleLoader) read(source string) ([]byte, error) {
	if name, ok := strings.CutPrefix(source, fromDefault); ok {
		return defaultRules.ReadFile(path.Join("rules", name))
	}
	if name, ok := strings.CutPrefix(source, fromObject); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		if text, ok := l.objects[name]; ok {
			return text, nil
		}
		return nil, fmt.Errorf("no rules named %q", name)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, fmt.Errorf("cannot read rule file: %w", err)
	}
	return text, nil
}

// sources lists what to load for a configuration, in a stable order.
func (l *ruleLoader) sources(cfg Config) ([]string, error) {
	var out []string
	if !cfg.NoDefaultRules {
		entries, err := fs.ReadDir(defaultRules, "rules")
		if err != nil {
			return nil, fmt.Errorf("cannot list built-in rules: %w", err)
		}
		for _, e := range entries {
			out = append(out, fromDefault+e.Name())
		}
	}
	for _, pattern := range cfg.RuleFiles {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("cannot use rule file pattern %q: %w", pattern, err)
		}
		if len(found) == 0 && !strings.ContainsAny(pattern, "*?[") {
			return nil, fmt.Errorf("cannot find rule file %q", pattern)
		}
		out = append(out, found...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.objects)) {
		out = append(out, fromObject+name)
	}
	return slices.Compact(out), nil
}

// check loads all sources and returns every fault.
func (l *ruleLoader) check(sources []string) error {
	var errs []error
	for _, s := range sources {
		_, e := l.Load(s, false, model.UTF8Validation)
		errs = append(errs, e...)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot load alerting rules: %w", err)
	}
	return nil
}

// ruleManager runs Prometheus' manager on the loader's groups.
type ruleManager struct {
	*rules.Manager
	cfg    Config
	loader *ruleLoader
}

func newRuleManager(cfg Config, deps Deps, loader *ruleLoader, sender rules.Sender, a *Alerting) *ruleManager {
	external := a.external
	return &ruleManager{cfg: cfg, loader: loader, Manager: rules.NewManager(&rules.ManagerOptions{
		ExternalURL:     external,
		QueryFunc:       rules.EngineQueryFunc(deps.Engine, deps.Queryable),
		NotifyFunc:      rules.SendAlerts(sender, strings.TrimSuffix(external.String(), "/")),
		Appendable:      deps.Appendable,
		Queryable:       deps.Queryable,
		Logger:          a.tel.Log,
		Registerer:      a.tel.Registry,
		OutageTolerance: outageTolerance,
		ForGracePeriod:  forGracePeriod,
		ResendDelay:     resendDelay,
		GroupLoader:     loader,
		Parser:          loader.parser,
		DefaultRuleQueryOffset: func() time.Duration {
			return 0
		},
	})}
}

// update loads all groups anew. A fault leaves the old ones running.
func (m *ruleManager) update() error {
	sources, err := m.loader.sources(m.cfg)
	if err != nil {
		return err
	}
	if err := m.loader.check(sources); err != nil {
		return err
	}
	err = m.Update(m.cfg.EvaluationInterval, sources, labels.FromMap(m.cfg.ExternalLabels), m.cfg.ExternalURL, nil)
	if err != nil {
		return fmt.Errorf("cannot update alerting rules: %w", err)
	}
	return nil
}

// SetRules adds or replaces rule groups under a name. The text is a Prometheus
// rule file, in YAML or JSON; a PrometheusRule's spec is one too. On error the
// groups of before remain.
func (a *Alerting) SetRules(name string, text []byte) error { return a.changeRules(name, text) }

// DeleteRules removes the groups set under a name.
func (a *Alerting) DeleteRules(name string) error { return a.changeRules(name, nil) }

func (a *Alerting) changeRules(name string, text []byte) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	l := a.rules.loader
	set := func(text []byte, ok bool) (old []byte, had bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		old, had = l.objects[name]
		if ok {
			l.objects[name] = text
		} else {
			delete(l.objects, name)
		}
		return old, had
	}
	old, had := set(text, text != nil)
	var err error
	if text != nil {
		err = l.check([]string{fromObject + name})
	}
	if err == nil && a.router.Load() != nil {
		err = a.rules.update()
	}
	if err != nil {
		set(old, had)
		return fmt.Errorf("cannot set rules %q: %w", name, err)
	}
	return nil
}

// RuleGroups returns the running groups, as Prometheus' API wants them.
func (a *Alerting) RuleGroups() []*rules.Group { return a.rules.RuleGroups() }

// AlertingRules returns the running alerting rules, as Prometheus' API wants them.
func (a *Alerting) AlertingRules() []*rules.AlertingRule { return a.rules.AlertingRules() }

// sender takes alerts of the rule manager into the router.
type sender struct{ a *Alerting }

func (s sender) Send(alerts ...*notifier.Alert) {
	r := s.a.router.Load()
	if r == nil {
		return // rules run only while routing does
	}
	now := s.a.now()
	out := make([]*alert.Alert, 0, len(alerts))
	for _, n := range alerts {
		al := &alert.Alert{UpdatedAt: now, Alert: model.Alert{
			Labels: labelSet(n.Labels), Annotations: labelSet(n.Annotations),
			StartsAt: n.StartsAt, EndsAt: n.EndsAt, GeneratorURL: n.GeneratorURL,
		}}
		if err := al.Validate(); err != nil {
			s.a.tel.Log.Error("alert of a rule is invalid", "alert", al.Name(), "err", err)
			continue
		}
		out = append(out, al)
	}
	if err := r.alerts.Put(context.Background(), out...); err != nil {
		s.a.tel.Log.Error("cannot route alerts", "alerts", len(out), "err", err)
	}
}

func labelSet(l labels.Labels) model.LabelSet {
	out := make(model.LabelSet, l.Len())
	l.Range(func(l labels.Label) {
		if l.Value != "" { // an empty label is no label
			out[model.LabelName(l.Name)] = model.LabelValue(l.Value)
		}
	})
	return out
}
