package alerting

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"binnacle.io/core/telemetry"
)

// TestFiringAndResolved follows a condition through rules, routing and both
// notifiers, and its end too.
func TestFiringAndResolved(t *testing.T) {
	hook, robot := newReceiver(t), newReceiver(t)
	w := newWorld(t)
	in := run(t, config(t, t.TempDir(), routeTo(`
  - name: ops
    webhook_configs:
      - url: `+hook.URL+`/hook?token=sesame
    dingtalk_configs:
      - url: `+robot.URL+`/robot/send?access_token=sesame
        secret: SECsesame
`)), w)
	started := time.Now()
	w.broken("web-1", 1)
	firing := hook.wait(t, 1)[0]
	if d := time.Since(started); d > 2500*time.Millisecond {
		t.Errorf("condition to webhook took %s with an interval of 1s", d)
	} else {
		t.Logf("condition to webhook took %s with an interval of 1s", d)
	}
	golden(t, "webhook_firing.json", firing)
	w.broken("web-1", 0)
	golden(t, "webhook_resolved.json", hook.wait(t, 2)[1])

	var titles []string
	for _, b := range robot.wait(t, 2) {
		var m struct {
			MsgType  string
			Markdown struct{ Title, Text string }
		}
		if err := json.Unmarshal(b, &m); err != nil || m.MsgType != "markdown" || !strings.Contains(m.Markdown.Text, "pod: web-1") {
			t.Errorf("%s: %v", b, err)
		}
		titles = append(titles, m.Markdown.Title)
	}
	if got := strings.Join(titles, "; "); got != "🔥 [FIRING:1] Broken; ✅ [RESOLVED] Broken" {
		t.Errorf("titles %s", got)
	}
	eventually(t, "metrics", func() bool {
		return sample(t, in.tel.Registry, "binnacle_alerting_queue_delivered_total") == 4
	})
	for name, want := range map[string]float64{
		"alertmanager_notifications_total":           4,
		"alertmanager_notifications_failed_total":    0,
		"alertmanager_notification_latency_seconds":  4,
		"binnacle_alerting_queue_delay_seconds":      4,
		"binnacle_alerting_queue_items":              0,
		"binnacle_alerting_queue_dropped_total":      0,
		"alertmanager_config_last_reload_successful": 1,
		"alertmanager_integrations":                  2,
	} {
		if got := sample(t, in.tel.Registry, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if len(in.AlertingRules()) != 1 || len(in.RuleGroups()) != 1 {
		t.Errorf("%d rules in %d groups", len(in.AlertingRules()), len(in.RuleGroups()))
	}
	in.stop()
	for _, secret := range []string{"sesame", "sign="} {
		if strings.Contains(in.logs.String(), secret) {
			t.Errorf("log contains %q", secret)
		}
	}
}

// TestReceiverDown has a receiver fail, the process restart meanwhile, and the
// receiver come back: it gets everything, in order.
func TestReceiverDown(t *testing.T) {
	hook := newReceiver(t)
	down := func(int) int { return 503 }
	hook.set(down)
	w := newWorld(t)
	dir := t.TempDir()
	cfg := config(t, dir, routeTo(`
  - name: ops
    webhook_configs: [{url: '`+hook.URL+`'}]
`))
	first := run(t, cfg, w)
	w.broken("web-1", 1)
	eventually(t, "first notification queued", func() bool {
		return sample(t, first.tel.Registry, "binnacle_alerting_queue_items") == 1
	})
	w.broken("web-2", 1)
	eventually(t, "second notification queued", func() bool {
		return sample(t, first.tel.Registry, "binnacle_alerting_queue_items") == 2
	})
	if sample(t, first.tel.Registry, "alertmanager_notifications_failed_total") == 0 ||
		sample(t, first.tel.Registry, "binnacle_alerting_queue_retries_total") == 0 {
		t.Error("failures are not counted")
	}
	first.stop()
	expire(t, filepath.Join(dir, "alerting", "alerts.json"))
	hook.set(nil)
	w.broken("web-1", 0) // ends while nobody looks
	second := run(t, cfg, w, func(a *Alerting) { a.grace = 3 * time.Second })
	bodies := hook.wait(t, 2)
	for i, want := range []int{1, 2} {
		var m struct {
			Status string
			Alerts []struct{ Status string }
		}
		if err := json.Unmarshal(bodies[i], &m); err != nil || m.Status != "firing" || len(m.Alerts) != want {
			t.Errorf("message %d: %s", i, bodies[i])
		}
	}
	end := string(hook.wait(t, 3)[2])
	if !strings.Contains(end, `"status":"firing","alerts"`) || strings.Count(end, `"status":"resolved"`) != 1 {
		t.Errorf("web-1 alone is resolved: %s", end)
	}
	w.broken("web-2", 0)
	if end := string(hook.wait(t, 4)[3]); !strings.Contains(end, `"status":"resolved","alerts"`) {
		t.Errorf("all is resolved: %s", end)
	}
	if n := sample(t, second.tel.Registry, "binnacle_alerting_queue_dropped_total"); n != 0 {
		t.Errorf("dropped %v", n)
	}
}

// expire makes saved alerts look as after a long time down.
func expire(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for field, ago := range map[string]time.Duration{"endsAt": time.Hour, "updatedAt": 2 * time.Hour} {
		b = regexp.MustCompile(`"`+field+`":"[^"]*"`).ReplaceAll(b, fmt.Appendf(nil, "%q:%q", field, time.Now().Add(-ago).Format(time.RFC3339)))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedForGood(t *testing.T) {
	hook := newReceiver(t)
	hook.set(func(n int) int {
		switch n {
		case 0:
			return 429 // later
		case 1:
			return 400 // never
		}
		return 200
	})
	w := newWorld(t)
	in := run(t, config(t, t.TempDir(), routeTo(`
  - name: ops
    webhook_configs: [{url: '`+hook.URL+`'}]
`)), w)
	w.broken("web-1", 1)
	eventually(t, "loss is counted", func() bool {
		return sample(t, in.tel.Registry, "binnacle_alerting_queue_dropped_total", dropRefused) == 1
	})
	w.broken("web-2", 1)
	hook.wait(t, 1)
}

// TestPoison has a receiver that chokes on one group: the others get through.
func TestPoison(t *testing.T) {
	var mu sync.Mutex
	good := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if bytes.Contains(b, []byte(`"pod":"bad"`)) {
			w.WriteHeader(500)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, pod := range []string{"a", "b", "c"} {
			good[pod] = good[pod] || bytes.Contains(b, []byte(`"pod":"`+pod+`"`))
		}
	}))
	t.Cleanup(srv.Close)
	w := newWorld(t)
	text := strings.Replace(routeTo("  - {name: ops, webhook_configs: [{url: '"+srv.URL+"'}]}\n"), "[alertname]", "[pod]", 1)
	in := run(t, config(t, t.TempDir(), text), w)
	w.broken("bad", 1)
	eventually(t, "failure", func() bool { return sample(t, in.tel.Registry, "binnacle_alerting_queue_retries_total") >= 5 })
	for _, pod := range []string{"a", "b", "c"} {
		w.broken(pod, 1)
	}
	eventually(t, "the others delivered", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return good["a"] && good["b"] && good["c"]
	})
	eventually(t, "only the bad one waits", func() bool { return sample(t, in.tel.Registry, "binnacle_alerting_queue_items") == 1 })
}

// TestSilences silences through the API, restarts, and finds the silence.
func TestSilences(t *testing.T) {
	hook := newReceiver(t)
	w := newWorld(t)
	cfg := config(t, t.TempDir(), routeTo(`
  - name: ops
    webhook_configs: [{url: '`+hook.URL+`'}]
`))
	first := run(t, cfg, w)
	body := fmt.Sprintf(`{"matchers":[{"name":"pod","value":"web-1","isRegex":false,"isEqual":true}],
		"startsAt":%q,"endsAt":%q,"createdBy":"me","comment":"known"}`,
		time.Now().Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	code, answer := call(first.Handler(), "POST", "/alertmanager/api/v2/silences", body)
	if code != 200 {
		t.Fatalf("%d %s", code, answer)
	}
	first.stop()
	second := run(t, cfg, w)
	if code, answer := call(second.Handler(), "GET", "/alertmanager/api/v2/silences", ""); code != 200 || !strings.Contains(answer, `"known"`) {
		t.Fatalf("after restart: %d %s", code, answer)
	}
	w.broken("web-1", 1)
	w.broken("web-2", 1)
	// The silenced alert is there, suppressed; the other one is notified alone.
	eventually(t, "suppressed", func() bool {
		_, answer := call(second.Handler(), "GET", "/alertmanager/api/v2/alerts", "")
		return strings.Contains(answer, `"suppressed"`) && strings.Contains(answer, `"active"`)
	})
	if body := string(hook.wait(t, 1)[0]); strings.Contains(body, "web-1") || !strings.Contains(body, "web-2") {
		t.Errorf("notified %s", body)
	}
}

func call(h http.Handler, method, url, body string) (int, string) {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestAPI(t *testing.T) {
	w := newWorld(t)
	in := run(t, Config{DataDir: t.TempDir()}, w) // no file: alerts are shown only
	for url, want := range map[string]string{
		"/alertmanager/-/healthy":        "OK",
		"/alertmanager/-/ready":          "OK",
		"/alertmanager/api/v2/status":    `"uptime"`,
		"/alertmanager/api/v2/receivers": `"ui"`,
		"/alertmanager/api/v2/alerts":    "[]",
		"/alertmanager/api/v2/silences":  "[]",
		"/alertmanager/metrics":          "prometheus_rule_group_rules",
	} {
		if code, answer := call(in.Handler(), "GET", url, ""); code != 200 || !strings.Contains(answer, want) {
			t.Errorf("GET %s: %d %.300s", url, code, answer)
		}
	}
	if n := len(in.AlertingRules()); n < 20 {
		t.Errorf("%d default rules run", n)
	}
	alert := `[{"labels":{"alertname":"FromOutside","severity":"critical"}}]`
	if code, answer := call(in.Handler(), "POST", "/alertmanager/api/v2/alerts", alert); code != 200 {
		t.Errorf("%d %s", code, answer)
	}
	eventually(t, "posted alert", func() bool {
		_, answer := call(in.Handler(), "GET", "/alertmanager/api/v2/alerts", "")
		return strings.Contains(answer, "FromOutside")
	})
}

// TestDamagedAlerts starts on an unreadable file of alerts: it runs, and says so.
func TestDamagedAlerts(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "alerting"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "alerting", "alerts.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := run(t, Config{DataDir: dir}, newWorld(t))
	if n := sample(t, in.tel.Registry, "binnacle_alerting_restore_failures_total"); n != 1 {
		t.Errorf("restore failures %v, want 1", n)
	}
}

func TestNotReadyBeforeRun(t *testing.T) {
	w := newWorld(t)
	a, err := New(Config{DataDir: t.TempDir()}, w.deps(), telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := call(a.Handler(), "GET", "/alertmanager/-/ready", ""); code != 503 {
		t.Errorf("ready: %d", code)
	}
	if code, _ := call(a.Handler(), "GET", "/alertmanager/api/v2/alerts", ""); code != 503 {
		t.Errorf("alerts: %d", code)
	}
	if err := a.Reload(); err == nil {
		t.Error("reload before Run is no error")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReload changes receivers and rules, and refuses broken ones.
func TestReload(t *testing.T) {
	one, two := newReceiver(t), newReceiver(t)
	w := newWorld(t)
	cfg := config(t, t.TempDir(), routeTo("  - {name: ops, webhook_configs: [{url: '"+one.URL+"'}]}\n"))
	in := run(t, cfg, w)
	w.broken("web-1", 1)
	one.wait(t, 1)

	change := func(text string) error {
		t.Helper()
		if err := os.WriteFile(cfg.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return in.Reload()
	}
	if err := change("route: {receiver: nobody}\n"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("broken configuration: %v", err)
	}
	if sample(t, in.tel.Registry, "alertmanager_config_last_reload_successful") != 0 {
		t.Error("failed reload is not shown")
	}
	w.broken("web-2", 1)
	one.wait(t, 2) // the old configuration is in force

	if err := change(routeTo("  - {name: ops, webhook_configs: [{url: '" + two.URL + "'}]}\n")); err != nil {
		t.Fatal(err)
	}
	w.broken("web-3", 1)
	two.wait(t, 1)

	rule := `{"groups":[{"name":"o","interval":"1s","rules":[{"alert":"FromObject","expr":"vector(1)"}]}]}`
	if err := in.SetRules("shop/rules", []byte(rule)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rule of an object", func() bool {
		_, answer := call(in.Handler(), "GET", "/alertmanager/api/v2/alerts", "")
		return strings.Contains(answer, "FromObject")
	})
	if err := in.SetRules("shop/rules", []byte(`{"groups":[{"name":"o","rules":[{"alert":"X","expr":"("}]}]}`)); err == nil {
		t.Error("broken rules were taken")
	}
	if n := len(in.AlertingRules()); n != 2 {
		t.Errorf("%d rules after a broken change, want 2", n)
	}
	if err := in.DeleteRules("shop/rules"); err != nil || len(in.AlertingRules()) != 1 {
		t.Errorf("%v, %d rules", err, len(in.AlertingRules()))
	}
}

// TestGroupsAndInhibition checks grouping, inhibition and time intervals from
// Alertmanager's file format.
func TestGroupsAndInhibition(t *testing.T) {
	hook := newReceiver(t)
	w := newWorld(t)
	cfg := config(t, t.TempDir(), `
route:
  receiver: ops
  group_by: [namespace]
  group_wait: 1500ms
  routes:
    - matchers: [pod="muted"]
      receiver: ops
      mute_time_intervals: [always]
time_intervals:
  - name: always
    time_intervals: [{times: [{start_time: '00:00', end_time: '24:00'}]}]
inhibit_rules:
  - {source_matchers: [pod="source"], target_matchers: [pod="target"]}
receivers: [{name: ops, webhook_configs: [{url: '`+hook.URL+`'}]}]
`)
	in := run(t, cfg, w)
	for _, pod := range []string{"source", "target", "muted", "other"} {
		w.broken(pod, 1)
	}
	for pod, want := range map[string]string{
		"source": `"inhibitedBy":[],"routes":[{"route":"{}","receiver":"ops","destinations":["ops/webhook[0]"],"groupLabels":{"namespace":"shop"}`,
		"muted":  `"mutedBy":["always"]`,
		"target": `"inhibitedBy":["`,
	} {
		eventually(t, "explanation of "+pod, func() bool {
			code, answer := call(in.Handler(), "GET", "/alertmanager/explain?alertname=Broken&namespace=shop&pod="+pod, "")
			return code == 200 && strings.Contains(answer, want)
		})
	}
	if code, _ := call(in.Handler(), "GET", "/alertmanager/explain", ""); code != 400 {
		t.Errorf("explain nothing: %d", code)
	}
	body := string(hook.wait(t, 1)[0])
	for pod, want := range map[string]bool{"source": true, "other": true, "target": false, "muted": false} {
		if strings.Contains(body, `"pod":"`+pod+`"`) != want {
			t.Errorf("pod %s: notified %v, want %v\n%s", pod, !want, want, body)
		}
	}
	eventually(t, "suppressed metric", func() bool {
		return sample(t, in.tel.Registry, "alertmanager_notifications_suppressed_total") > 0
	})
}

func TestNotificationSpan(t *testing.T) {
	hook := newReceiver(t)
	w := newWorld(t)
	in := run(t, config(t, t.TempDir(), routeTo("  - {name: ops, webhook_configs: [{url: '"+hook.URL+"'}]}\n")), w)
	rec := &recorder{}
	in.hub.AddSpanProcessor(rec)
	w.broken("web-1", 1)
	hook.wait(t, 1)
	eventually(t, "span", func() bool { return rec.has("notify webhook") })
}
