package alerting

import (
	"context"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// recorder is a span processor that keeps names.
type recorder struct {
	mu    sync.Mutex
	names []string
}

func (r *recorder) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (r *recorder) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, s.Name())
}
func (r *recorder) Shutdown(context.Context) error   { return nil }
func (r *recorder) ForceFlush(context.Context) error { return nil }
func (r *recorder) has(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		if n == name {
			return true
		}
	}
	return false
}

const mixed = `global:
  resolve_timeout: 1m
route:
  receiver: b
receivers:
  - dingtalk_configs: # first key of its receiver
      - url: https://oapi.dingtalk.com/robot/send?access_token=1
        text: |
          several
            lines
    # a comment
    name: a
    webhook_configs:
      - url: http://127.0.0.1/a
  - name: b
    dingtalk_configs:
    - url_file: robot
      at_all: true
      http_config:
        proxy_url: http://127.0.0.1:3128
    - url: http://127.0.0.1/b

  - name: c
templates: [t/*.tmpl]
`

func TestMixedFile(t *testing.T) {
	f, err := parseFile([]byte(mixed), "/etc/x")
	if err != nil {
		t.Fatal(err)
	}
	a, b := f.dingtalk["a"], f.dingtalk["b"]
	if len(a) != 1 || a[0].Text != "several\n  lines\n" || len(b) != 2 || !b[0].AtAll || b[0].HTTPConfig.ProxyURL.Port() != "3128" {
		t.Errorf("a %+v b %+v", a, b)
	}
	if b[0].URLFile != filepath.FromSlash("/etc/x/robot") || f.am.Templates[0] != filepath.FromSlash("/etc/x/t/*.tmpl") {
		t.Errorf("relative names: %s %s", b[0].URLFile, f.am.Templates[0])
	}
	if b[1].HTTPConfig != f.am.Global.HTTPConfig {
		t.Error("the global http_config is not used")
	}
	if len(f.am.Receivers) != 3 || len(f.am.Receivers[0].WebhookConfigs) != 1 {
		t.Errorf("receivers %+v", f.am.Receivers)
	}
}

func TestFileRefusals(t *testing.T) {
	base := "route: {receiver: a}\nreceivers:\n  - name: a\n"
	for yml, want := range map[string]string{
		"":                       "no route",
		"route: {receiver: b}\n": "undefined receiver",
		"route: {receiver: a, x: 1}\nreceivers: [{name: a}]\n":                                                           "line 1: field x not found",
		base + "    dingtalk_configs:\n      - url: http://h/\n        colour: red\n":                                    "line 6: field colour not found",
		base + "    dingtalk_configs:\n      - url: http://h/\n    webhook_configs:\n      - {url: 'http://h', no: 1}\n": "line 7: field no not found",
		base + "    dingtalk_configs:\n      -\n":                                                                        "empty",
		base + "    dingtalk_configs: 5\n":                                                                               "line 4",
		base + "    dingtalk_configs:\n      - {secret: x}\n":                                                            "exactly one of url and url_file",
		base + "    feishu_configs: []\n":                                                                                "line 4: feishu_configs is not supported",
		base + "    wecom_configs: []\n":                                                                                 "line 4: wecom_configs is not supported",
		base + "    sns_configs: [{topic_arn: x, sigv4: {region: r}}]\n":                                                 "sns_configs is not supported",
		"route: {receiver: a}\nreceivers: [{name: a, dingtalk_configs: [{url: 'http://h/'}]}]\n":                         "without braces",
		base + "tracing: {endpoint: 'x:1'}\n":                                                                            "tracing is not supported",
		"route: [\n":                                                                                                     "yaml",
	} {
		_, err := parseFile([]byte(yml), "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  got  %v\n  want %q", yml, err, want)
		}
	}
	if _, err := loadFile(filepath.Join(t.TempDir(), "none.yml")); err == nil {
		t.Error("a missing file is no error")
	}
	if f, err := loadFile(""); err != nil || f.am.Receivers[0].Name != "ui" {
		t.Errorf("default file: %v", err)
	}
}

func TestConfigRefusals(t *testing.T) {
	for want, cfg := range map[string]Config{
		"DataDir":     {},
		"shortest":    {DataDir: "x", EvaluationInterval: time.Millisecond},
		"ExternalURL": {DataDir: "x", ExternalURL: "nowhere"},
		"negative":    {DataDir: "x", QueueItems: -1},
	} {
		if _, err := cfg.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestNotificationRoundTrip checks that nothing a notifier sees is lost in the queue.
func TestNotificationRoundTrip(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	a := &alert.Alert{UpdatedAt: now, Timeout: true, Alert: model.Alert{
		Labels: model.LabelSet{"alertname": "A", "severity": "critical"}, Annotations: model.LabelSet{"summary": "s"},
		StartsAt: now, EndsAt: now.Add(time.Minute), GeneratorURL: "http://g",
	}}
	ctx := notify.WithReceiverName(t.Context(), "r")
	ctx = notify.WithGroupKey(ctx, "k")
	ctx = notify.WithGroupLabels(ctx, model.LabelSet{"alertname": "A"})
	ctx = notify.WithRouteLabels(ctx, model.LabelSet{"team": "t"})
	ctx = notify.WithRepeatInterval(ctx, time.Hour)
	ctx = notify.WithNow(ctx, now)
	ctx = notify.WithFiringAlerts(ctx, []uint64{1})
	ctx = notify.WithResolvedAlerts(ctx, []uint64{2})
	if _, err := capture(ctx, nil); err == nil {
		t.Error("a context without reason was taken")
	}
	ctx = notify.WithNotificationReason(ctx, notify.ReasonNewAlertsInGroup)
	n, err := capture(ctx, []*alert.Alert{a})
	if err != nil || !n.critical() {
		t.Fatal(err, n.critical())
	}
	back, alerts := n.restore(t.Context())
	again, err := capture(back, alerts)
	if err != nil || !reflect.DeepEqual(n, again) || !reflect.DeepEqual(alerts[0], a) {
		t.Errorf("%v\n%+v\n%+v", err, n, again)
	}
}

func TestBackoff(t *testing.T) {
	if err := quick.Check(func(failures uint8, r uint16) bool {
		d := backoff(int(failures)+1, time.Minute, float64(r)/65536)
		return d >= firstRetry*3/4 && d <= 75*time.Second
	}, nil); err != nil {
		t.Error(err)
	}
	if d := backoff(1, time.Minute, 0.5); d != firstRetry {
		t.Errorf("first pause %s", d)
	}
	if d := backoff(30, time.Minute, 0.5); d != time.Minute {
		t.Errorf("thirtieth pause %s", d)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(mixed)
	f.Add(string(defaultFile))
	f.Fuzz(func(t *testing.T, text string) { _, _ = parseFile([]byte(text), "/d") })
}
