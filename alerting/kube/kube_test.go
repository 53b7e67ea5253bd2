package kube

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/alerting"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/telemetry"
)

// world is an API server, alerting and a watcher between them.
type world struct {
	t        *testing.T
	c        client.Client
	alerting *alerting.Alerting
	watcher  *Watcher
	received chan string // bodies that reach the webhook
	url      string
}

func newWorld(t *testing.T, file string) *world {
	w := &world{t: t, c: apitest.Start(t).Client, received: make(chan string, 1000)}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.received <- r.URL.Path + " " + string(b)
	}))
	t.Cleanup(srv.Close)
	w.url = srv.URL

	tel := telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(io.Discard, nil)}).Component("alerting", "alertmanager-main")
	st := teststorage.New(t)
	var err error
	w.alerting, err = alerting.New(alerting.Config{DataDir: t.TempDir(), File: file, NoDefaultRules: true},
		alerting.Deps{Queryable: st, Appendable: st, Engine: promqltest.NewTestEngine(t, false, time.Minute, 10000)}, tel)
	if err != nil {
		t.Fatal(err)
	}
	rec := events.NewRecorder(events.Config{Component: "alerting"}, w.c, tel)
	w.watcher = New(Config{}, w.alerting, w.c, rec, tel)
	for _, f := range []func(context.Context) error{w.alerting.Run, rec.Run, w.watcher.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

// config sends everything to the webhook's path. The receiver has the path's name:
// one of another name is told anew.
func (w *world) config(path string) string {
	return fmt.Sprintf(`
route: {receiver: %[2]s, group_wait: 0s, group_interval: 100ms}
receivers:
- name: %[2]s
  webhook_configs:
  - url: %[1]s%[2]s
`, w.url, path)
}

func rules(alert string) string {
	return fmt.Sprintf("groups: [{name: g, interval: 1s, rules: [{alert: %s, expr: vector(1)}]}]", alert)
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: map[string]string{RulesLabel: "true"}}
}

func (w *world) secret(data map[string]string) {
	w.t.Helper()
	o := &corev1.Secret{ObjectMeta: meta("binnacle-alerting"), Data: map[string][]byte{}}
	for k, v := range data {
		o.Data[k] = []byte(v)
	}
	put(w, o)
}

func put[T client.Object](w *world, obj T) {
	w.t.Helper()
	if _, err := client.Create(w.t.Context(), w.c, obj); err == nil {
		return
	}
	if _, err := client.Update(w.t.Context(), w.c, obj); err != nil {
		w.t.Fatal(err)
	}
}

// expect waits for a notification to path with the alert.
func (w *world) expect(path, alert string) {
	w.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case got := <-w.received:
			if strings.HasPrefix(got, path+" ") && strings.Contains(got, alert) {
				return
			}
		case <-late:
			w.t.Fatalf("%s was not told of %s", path, alert)
		}
	}
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
	}
}

func (w *world) refused(kind string) float64 {
	return testutil.ToFloat64(w.watcher.refused.WithLabelValues(kind))
}

// event waits for an event on an object and returns its message.
func (w *world) event(object, reason string) (message string) {
	w.t.Helper()
	w.eventually(reason+" on "+object, func() bool {
		list, _, err := client.ListOf[*corev1.Event](w.t.Context(), w.c, client.ReadOptions{Namespace: "kube-system"})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range list {
			if e.InvolvedObject.Name == object && e.Reason == reason {
				message = e.Message
				return true
			}
		}
		return false
	})
	return message
}

func (w *world) alertNames() (names []string) {
	for _, r := range w.alerting.AlertingRules() {
		names = append(names, r.Name())
	}
	return names
}

func TestConfigurationFollowsTheSecret(t *testing.T) {
	w := newWorld(t, "")
	put(w, &corev1.ConfigMap{ObjectMeta: meta("mine"), Data: map[string]string{"a.yaml": rules("Always")}})
	w.secret(map[string]string{ConfigKey: w.config("/one")})
	w.expect("/one", "Always")
	w.event("binnacle-alerting", "AlertingApplied")

	w.secret(map[string]string{ConfigKey: w.config("/two")})
	w.expect("/two", "Always")

	// What cannot be used leaves the one before.
	w.secret(map[string]string{ConfigKey: "route: {receiver: nobody}\n"})
	if m := w.event("binnacle-alerting", "AlertingRefused"); !strings.Contains(m, "nobody") {
		t.Errorf("the event does not name the fault: %s", m)
	}
	if n := w.refused("Secret"); n != 1 {
		t.Errorf("%v Secrets are refused, want 1", n)
	}
	put(w, &corev1.ConfigMap{ObjectMeta: meta("more"), Data: map[string]string{"b.yaml": rules("Later")}})
	w.expect("/two", "Later")

	w.secret(map[string]string{ConfigKey: w.config("/three")})
	w.expect("/three", "Later")
	w.eventually("nothing is refused", func() bool { return w.refused("Secret") == 0 })

	w.secret(map[string]string{"other": "x"})
	w.eventually("a Secret without the key is refused", func() bool { return w.refused("Secret") == 1 })

	if err := client.Delete[*corev1.Secret](t.Context(), w.c, "kube-system", "binnacle-alerting", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the built-in configuration is back", func() bool {
		e, err := w.alerting.Explain(t.Context(), nil)
		return err == nil && len(e.Routes) == 1 && e.Routes[0].Receiver == "ui" && w.refused("Secret") == 0
	})
}

func TestRulesFollowConfigMaps(t *testing.T) {
	w := newWorld(t, "")
	is := func(want ...string) {
		t.Helper()
		w.eventually(fmt.Sprint("rules are ", want), func() bool { return fmt.Sprint(w.alertNames()) == fmt.Sprint(want) })
	}
	put(w, &corev1.ConfigMap{ObjectMeta: meta("mine"), Data: map[string]string{"a.yaml": rules("A"), "b.yaml": rules("B")}})
	is("A", "B")
	// Another namespace, another label: not ours.
	other := meta("theirs")
	other.Namespace = "default"
	put(w, &corev1.ConfigMap{ObjectMeta: other, Data: map[string]string{"x.yaml": rules("X")}})
	unlabelled := meta("unlabelled")
	unlabelled.Labels = nil
	put(w, &corev1.ConfigMap{ObjectMeta: unlabelled, Data: map[string]string{"x.yaml": rules("X")}})
	// One key changes, one is broken and stays as it was.
	put(w, &corev1.ConfigMap{ObjectMeta: meta("mine"), Data: map[string]string{"a.yaml": rules("A2"), "b.yaml": "groups: [{name: g, rules: [{alert: B, expr: 'up =='}]}]"}})
	is("A2", "B")
	w.eventually("the ConfigMap is refused", func() bool { return w.refused("ConfigMap") == 1 })
	if m := w.event("mine", "AlertingRefused"); !strings.Contains(m, `key "b.yaml"`) || !strings.Contains(m, "parse error") {
		t.Errorf("the event does not name the fault: %s", m)
	}
	// A key is taken out, then the label.
	put(w, &corev1.ConfigMap{ObjectMeta: meta("mine"), Data: map[string]string{"a.yaml": rules("A2")}})
	is("A2")
	w.eventually("nothing is refused", func() bool { return w.refused("ConfigMap") == 0 })
	unlabelled.Name = "mine"
	put(w, &corev1.ConfigMap{ObjectMeta: unlabelled, Data: map[string]string{"a.yaml": rules("A2")}})
	is()
}

func TestFileWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alertmanager.yaml")
	if err := os.WriteFile(file, []byte("route: {receiver: file}\nreceivers: [{name: file}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, file)
	w.secret(map[string]string{ConfigKey: w.config("/one")})
	if m := w.event("binnacle-alerting", "AlertingRefused"); !strings.Contains(m, file+" is in force") {
		t.Errorf("the event does not say which file: %s", m)
	}
	w.eventually("the file's receiver is in force", func() bool {
		e, err := w.alerting.Explain(t.Context(), nil)
		return err == nil && e.Routes[0].Receiver == "file"
	})
	// Its end changes nothing either.
	if err := client.Delete[*corev1.Secret](t.Context(), w.c, "kube-system", "binnacle-alerting", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("nothing is refused", func() bool { return w.refused("Secret") == 0 })
}

func TestSecretsStaySecret(t *testing.T) {
	w := newWorld(t, "")
	w.secret(map[string]string{ConfigKey: "route: {receiver: a}\nreceivers:\n- name: a\n  slack_configs: [{channel: x, api_url: 'https://user:hunter2@%zz/x'}]\n"})
	if m := w.event("binnacle-alerting", "AlertingRefused"); strings.Contains(m, "hunter2") {
		t.Errorf("the event tells the secret: %s", m)
	}
}
