package dingtalk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// robot answers as DingTalk's does.
type robot struct {
	*httptest.Server
	t      *testing.T
	secret string
	now    func() time.Time
	answer func(n int) string // of the nth request; nil means success
	got    []message
}

func newRobot(t *testing.T, secret string, now func() time.Time) *robot {
	r := &robot{t: t, secret: secret, now: now}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *robot) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	reply := func(s string) { _, _ = io.WriteString(w, s) }
	if len(body) > 20000 {
		reply(`{"errcode":460101,"errmsg":"message too long, exceed 20000 bytes"}`)
		return
	}
	if r.secret != "" {
		q := req.URL.Query()
		mac := hmac.New(sha256.New, []byte(r.secret))
		fmt.Fprintf(mac, "%s\n%s", q.Get("timestamp"), r.secret)
		given, err := base64.StdEncoding.DecodeString(q.Get("sign"))
		if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
			reply(`{"errcode":310000,"errmsg":"sign not match"}`)
			return
		}
		if q.Get("timestamp") != fmt.Sprint(r.now().UnixMilli()) {
			reply(`{"errcode":310000,"errmsg":"timestamp is invalid"}`)
			return
		}
	}
	if req.URL.Query().Get("access_token") != "tok+en" {
		reply(`{"errcode":300001,"errmsg":"token is not exist"}`)
		return
	}
	if r.answer != nil {
		if a := r.answer(len(r.got)); a != "" {
			reply(a)
			return
		}
	}
	var m message
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || req.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("body %s: %v", body, err)
	}
	r.got = append(r.got, m)
	reply(`{"errcode":0,"errmsg":"ok"}`)
}

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func notifier(t *testing.T, r *robot, c *clock, robots *Robots, yml string) *Notifier {
	t.Helper()
	conf := parse(t, "url: "+r.URL+"/robot/send?access_token=tok%2Ben\n"+yml)
	tmpl, err := template.FromGlobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.ExternalURL, _ = url.Parse("http://127.0.0.1:9090")
	n, err := New(conf, tmpl, slog.New(slog.NewTextHandler(io.Discard, nil)), robots, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.client.CloseIdleConnections)
	return n
}

func parse(t *testing.T, yml string) *Config {
	t.Helper()
	conf := &Config{}
	if err := yaml.UnmarshalStrict([]byte(yml), conf); err != nil {
		t.Fatal(err)
	}
	return conf
}

func ctx() context.Context {
	c := notify.WithGroupKey(context.Background(), "{}:{alertname=\"Crash\"}")
	c = notify.WithReceiverName(c, "ops")
	c = notify.WithGroupLabels(c, model.LabelSet{"alertname": "Crash"})
	return notify.WithNotificationReason(c, notify.ReasonFirstNotification)
}

func firing(pod string) *alert.Alert {
	return &alert.Alert{Alert: model.Alert{
		Labels:      model.LabelSet{"alertname": "Crash", "severity": "critical", "pod": model.LabelValue(pod)},
		Annotations: model.LabelSet{"summary": "Pod restarts", "description": "again & again <b>"},
		StartsAt:    t0,
	}}
}

func resolved(pod string) *alert.Alert {
	a := firing(pod)
	a.EndsAt = t0.Add(time.Minute)
	return a
}

func TestFiringAndResolved(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "SECabc", c.now)
	n := notifier(t, r, c, NewRobots(c.now), "secret: SECabc\nat_mobiles: ['13800000000']\nat_user_ids: [u1]\nat_firing_only: true\n")
	if _, err := n.Notify(ctx(), firing("web-1"), firing("web-2")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Notify(ctx(), resolved("web-1")); err != nil {
		t.Fatal(err)
	}
	if len(r.got) != 2 {
		t.Fatalf("%d messages", len(r.got))
	}
	f, res := r.got[0], r.got[1]
	if f.MsgType != "markdown" || f.Markdown.Title != "🔥 [FIRING:2] Crash" {
		t.Errorf("title %q", f.Markdown.Title)
	}
	for _, want := range []string{"### 🔥 Firing: 2", "pod: web-1", "pod: web-2", "**Pod restarts**", "again & again <b>",
		"since: 2026-03-01 12:00:00 UTC", "[Binnacle](http://127.0.0.1:9090)", "@13800000000 @u1"} {
		if !strings.Contains(f.Markdown.Text, want) {
			t.Errorf("firing text lacks %q:\n%s", want, f.Markdown.Text)
		}
	}
	if fmt.Sprint(f.At) != "{[13800000000] [u1] false}" {
		t.Errorf("at %+v", f.At)
	}
	if res.Markdown.Title != "✅ [RESOLVED] Crash" || !strings.Contains(res.Markdown.Text, "resolved: 2026-03-01 12:01:00 UTC") ||
		strings.Contains(res.Markdown.Text, "Firing") || strings.Contains(res.Markdown.Text, "@") || len(res.At.AtMobiles) != 0 {
		t.Errorf("resolved %+v", res)
	}
}

func TestOwnTemplateAndAll(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "", c.now)
	n := notifier(t, r, c, NewRobots(c.now), "at_all: true\ntitle: '{{ .CommonLabels.pod }}'\ntext: 'n={{ len .Alerts }}'\n")
	if _, err := n.Notify(ctx(), firing("x")); err != nil {
		t.Fatal(err)
	}
	if m := r.got[0]; m.Markdown.Title != "x" || m.Markdown.Text != "n=1" || !m.At.IsAtAll {
		t.Errorf("%+v", m)
	}
	bad := notifier(t, r, c, NewRobots(c.now), "text: '{{ .Nothing }}'\n")
	if retry, err := bad.Notify(ctx(), firing("x")); err == nil || retry {
		t.Errorf("broken template: %v %v", retry, err)
	}
}

// TestSplit sends more than one message holds, fails in the middle, and goes on.
func TestSplit(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "SECabc", c.now)
	n := notifier(t, r, c, NewRobots(c.now), "secret: SECabc\nat_mobiles: ['1']\n")
	var alerts []*alert.Alert
	for i := range 400 {
		alerts = append(alerts, firing(fmt.Sprintf("容器-%d", i)))
	}
	r.answer = func(n int) string {
		if n == 2 {
			return `{"errcode":-1,"errmsg":"system busy"}`
		}
		return ""
	}
	retry, err := n.Notify(ctx(), alerts...)
	if err == nil || !retry || !strings.Contains(err.Error(), "part 3 of") {
		t.Fatalf("%v %v", retry, err)
	}
	r.answer = nil
	if _, err := n.Notify(ctx(), alerts...); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for i, m := range r.got {
		if want := fmt.Sprintf("🔥 [FIRING:400] Crash (%d/%d)", i+1, len(r.got)); m.Markdown.Title != want {
			t.Errorf("title %q, want %q", m.Markdown.Title, want)
		}
		if last := i == len(r.got)-1; strings.Contains(m.Markdown.Text, "@1") != last || (len(m.At.AtMobiles) == 1) != last {
			t.Errorf("mention in part %d of %d", i+1, len(r.got))
		}
		all.WriteString(m.Markdown.Text)
	}
	for i := range 400 {
		if n := strings.Count(all.String(), fmt.Sprintf("容器-%d\n", i)); n != 1 {
			t.Fatalf("alert %d is there %d times", i, n)
		}
	}
}

func TestSplitText(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("line\n", 50), strings.Repeat("é\"\\\x01", 100), strings.Repeat("#### h\nbody\n", 30)} {
		parts := split(text, 40)
		if strings.Join(parts, "") != text {
			t.Errorf("%q: lost text", text)
		}
		for _, p := range parts {
			if cost(p) > 40 || !utf8.ValidString(p) || p == "" && text != "" {
				t.Errorf("part %q costs %d", p, cost(p))
			}
		}
	}
	for _, p := range split(strings.Repeat("#### h\nbody body\n", 30), 60) {
		if !strings.HasPrefix(p, "#### ") {
			t.Errorf("cut within an alert: %q", p)
		}
	}
}

func TestRateLimitIsSharedAndSlides(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "", c.now)
	robots := NewRobots(c.now)
	a, b := notifier(t, r, c, robots, ""), notifier(t, r, c, robots, "")
	for i := range 20 {
		n := a
		if i%2 == 1 {
			n = b
		}
		c.t = t0.Add(time.Duration(i) * time.Second)
		if _, err := n.Notify(ctx(), firing(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	retry, err := a.Notify(ctx(), firing("21"))
	var wait *WaitError
	if !retry || !errors.As(err, &wait) || wait.After != 41*time.Second || b.Ready() != 41*time.Second {
		t.Fatalf("%v %v %v", retry, err, b.Ready())
	}
	c.t = t0.Add(60 * time.Second)
	if a.Ready() != 0 {
		t.Errorf("not ready after the window: %s", a.Ready())
	}
	if _, err := a.Notify(ctx(), firing("21")); err != nil {
		t.Error(err)
	}
	if b.Ready() != time.Second {
		t.Errorf("ready in %s, want 1s", b.Ready())
	}
	if len(r.got) != 21 {
		t.Errorf("%d requests", len(r.got))
	}
}

func TestAnswers(t *testing.T) {
	for answer, want := range map[string]struct {
		retry bool
		wait  time.Duration
		part  string
	}{
		`{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}`: {true, 10 * time.Minute, "130101"},
		`{"errcode":310000,"errmsg":"sign not match"}`:                            {true, 0, "sign not match"},
		`{"errcode":310000,"errmsg":"keywords not in content"}`:                   {false, 0, "keywords"},
		`{"errcode":-1,"errmsg":"system busy"}`:                                   {true, 0, "busy"},
		`{"errcode":300001,"errmsg":"token is not exist"}`:                        {true, 0, "300001"},
		`{"errcode":40035,"errmsg":"invalid parameter"}`:                          {false, 0, "40035"},
		`<html>proxy</html>`: {true, 0, "no errcode"},
		`{}`:                 {true, 0, "no errcode"},
	} {
		c := &clock{t0}
		r := newRobot(t, "", c.now)
		r.answer = func(int) string { return answer }
		n := notifier(t, r, c, NewRobots(c.now), "")
		retry, err := n.Notify(ctx(), firing("x"))
		var wait *WaitError
		after := time.Duration(0)
		if errors.As(err, &wait) {
			after = wait.After
		}
		if err == nil || retry != want.retry || after != want.wait || !strings.Contains(err.Error(), want.part) || n.Ready() != want.wait {
			t.Errorf("%s: retry %v after %s (ready in %s): %v", answer, retry, after, n.Ready(), err)
		}
	}
}

func TestWrongSignatureIsRefused(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "SECright", c.now)
	n := notifier(t, r, c, NewRobots(c.now), "secret: SECwrong\n")
	if retry, err := n.Notify(ctx(), firing("x")); err == nil || !retry || !strings.Contains(err.Error(), "310000 sign not match") {
		t.Errorf("%v %v", retry, err)
	}
}

func TestNothingSecretInErrors(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "", c.now)
	n := notifier(t, r, c, NewRobots(c.now), "secret: SECabc\n")
	r.Close()
	retry, err := n.Notify(ctx(), firing("x"))
	if err == nil || !retry {
		t.Fatal(retry, err)
	}
	out, e := yaml.Marshal(n.conf)
	if e != nil {
		t.Fatal(e)
	}
	for _, text := range []string{err.Error(), string(out)} {
		for _, secret := range []string{"tok", "SECabc", "sign="} {
			if strings.Contains(text, secret) {
				t.Errorf("%q in %q", secret, text)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	c := &clock{t0}
	r := newRobot(t, "SECfile", c.now)
	dir := t.TempDir()
	n := notifier(t, r, c, NewRobots(c.now), "secret_file: secret\n")
	n.conf.URL, n.conf.URLFile = "", "url"
	n.conf.SetDirectory(dir)
	if retry, err := n.Notify(ctx(), firing("x")); err == nil || !retry {
		t.Errorf("missing files: %v %v", retry, err)
	}
	for name, text := range map[string]string{"secret": "SECfile\n", "url": r.URL + "/robot/send?access_token=tok%2Ben\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Notify(ctx(), firing("x")); err != nil {
		t.Error(err)
	}
}

func TestConfigRefusals(t *testing.T) {
	for yml, want := range map[string]string{
		"secret: x":                                   "exactly one of url and url_file",
		"url: https://a/b\nurl_file: c":               "exactly one of url and url_file",
		"url: https://a/b\nsecret: a\nsecret_file: b": "at most one of secret",
		"url: ftp://a/t0k3n":                          "http or https",
		"url: https://a/b\nrate_limit: 21":            "rate_limit",
		"url: https://a/b\nrate_limit: 0":             "rate_limit",
		"url: https://a/b\ntext: ''":                  "must not be empty",
		"url: https://a/b\nat_mobile: [1]":            "at_mobile not found",
	} {
		err := yaml.UnmarshalStrict([]byte(yml), &Config{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", yml, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "t0k3n") {
			t.Errorf("%q: URL in %v", yml, err)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(200, []byte(`{"errcode":130101,"errmsg":"x"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if code, retry, err := judge(status, body); err == nil && (retry || code != 0 || status/100 != 2) {
			t.Errorf("%d %s is success", status, body)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add("a\n# b\n\x00é", 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 12 + limit&0xff
		parts := split(text, limit)
		if strings.Join(parts, "") != text {
			t.Error("lost text")
		}
		for _, p := range parts {
			b, err := encode(&message{Markdown: markdown{Text: p}})
			empty, _ := encode(&message{})
			if n := len(b) - len(empty); err != nil || n > limit {
				t.Errorf("part takes %d of %d bytes, %v", n, limit, err)
			}
		}
	})
}
