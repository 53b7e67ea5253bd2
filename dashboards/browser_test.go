package dashboards_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/dashboards"
)

// browser is a page in headless Chromium.
type browser struct {
	t     testing.TB
	ctx   context.Context
	shots string

	mu       sync.Mutex
	problems []string // what the console and exceptions say, guarded by mu
}

func newBrowser(t testing.TB, width, height int64) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	b := &browser{t: t, shots: os.Getenv("BINNACLE_SCREENSHOTS")}
	if b.shots == "" {
		b.shots = t.TempDir()
	}
	must(t, os.MkdirAll(b.shots, 0o755))
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.WindowSize(int(width), int(height)),
	)
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, end := chromedp.NewContext(alloc)
	ctx, cut := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(func() { cut(); end(); endAlloc() })
	b.ctx = ctx
	must(t, chromedp.Listen(ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := ev.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
			}
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, e.ExceptionDetails.Text)
			if x := e.ExceptionDetails.Exception; x != nil {
				b.problems = append(b.problems, x.Description)
			}
		}
	}))
	_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	must(t, err)
	return b
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// js evaluates an expression, whose value comes as JSON.
func (b *browser) js(expr string) string {
	b.t.Helper()
	out, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("JSON.stringify("+expr+") ?? 'null'"))
	if err != nil {
		b.t.Fatalf("%s: %v", expr, err)
	}
	return out
}

// until waits until an expression is true.
func (b *browser) until(what, expr string) {
	b.t.Helper()
	deadline := time.NewTimer(40 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for b.js("!!("+expr+")") != "true" {
		select {
		case <-tick.C:
		case <-deadline.C:
			b.shot("failed.png")
			b.t.Fatalf("%s: not seen\npage: %s", what, b.js(`document.querySelector('main').innerText.slice(-1500)`))
		}
	}
}

// press strikes keys as a keyboard does: when the page takes a key for itself,
// its letter is not typed.
func (b *browser) press(keys string) {
	b.t.Helper()
	for _, r := range keys {
		for _, k := range kb.Encode(r) {
			switch {
			case k.Type == input.DispatchKeyEventTypeChar:
				continue
			case k.Type != input.DispatchKeyEventTypeKeyUp && (strconv.IsPrint(r) || r == '\r'):
				k.Type, k.Text, k.UnmodifiedText = input.DispatchKeyEventTypeKeyDown, string(r), string(r)
			}
			_, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, *k)
			must(b.t, err)
		}
	}
}

// empty clears a field and leaves the focus in it.
func (b *browser) empty(id string) {
	b.t.Helper()
	b.js(fmt.Sprintf(`(e => { e.focus(); e.value = ''; e.dispatchEvent(new Event('input', {bubbles: true})); return true })(document.getElementById(%q))`, id))
}

// text is an expression for the text of the first element of a selector.
func text(selector string) string {
	return fmt.Sprintf("(document.querySelector(%q)?.textContent ?? '')", selector)
}

func (b *browser) shot(name string) {
	b.t.Helper()
	b.save(name, chromedp.CaptureScreenshot())
}

func (b *browser) save(name string, take chromedp.Action[[]byte]) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, take)
	must(b.t, err)
	if len(png) < 10_000 {
		b.t.Errorf("%s has %d bytes only", name, len(png))
	}
	must(b.t, os.WriteFile(filepath.Join(b.shots, name), png, 0o644))
}

// clean fails when the page complained about anything but what is expected: a
// violated Content-Security-Policy, a failed request, an exception.
func (b *browser) clean(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		if slices.ContainsFunc(expected, func(e string) bool { return strings.Contains(p, e) }) {
			continue
		}
		b.t.Errorf("the page complains: %s", p)
	}
}

// media chooses what the page's media queries see.
func (b *browser) media(scheme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	must(b.t, err)
}

func (s *stage) makePod(name string) *corev1.Pod {
	return create(s, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "single"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "single:1"}}},
	})
}

const (
	rows     = `document.querySelectorAll('#pods tbody tr').length`
	frontend = `[data-pod^='default/guestbook-frontend']`
)

// TestPage opens the page of a live cluster and uses it as a person would.
func TestPage(t *testing.T) {
	b := newBrowser(t, 1440, 1000)
	s := newStage(t)
	s.populate()
	s.agent.setLoad("guestbook-frontend", .05)
	s.agent.setLoad("guestbook-store", .03)
	s.agent.setLoad("cart", .06)
	b.media("light")
	b.run(chromedp.Navigate(s.url + "/"))
	b.until("live", text("#link")+" === 'Live'")

	b.until("the node", text("[data-node="+nodeName+"]")+".includes('Ready')")
	b.until("nodes tile", text("#tile-nodes")+".includes('1 of 1 ready') || "+text("#tile-nodes .tile-value")+" === '1 of 1 ready'")
	b.until("seven pods", rows+" === 7")
	b.until("a running pod", text(frontend+" .state")+".includes('Running')")
	b.until("its owner", text(frontend+" .owner")+".includes('Deployment/guestbook-frontend')")
	b.until("a pod without image", text("[data-pod^='shop/payments'] .state")+".includes('ImagePullBackOff')")
	b.until("why it fails", text("[data-pod^='shop/payments'] .state")+".includes('no such host')")
	b.until("a pod that fits nowhere", text("[data-pod^='shop/reports'] .state")+".includes('Pending')")
	b.until("why it fits nowhere", text("[data-pod^='shop/reports'] .why")+".includes('Insufficient cpu')")
	b.until("CPU measured", `/^[0-9.]+m$/.test(`+text(frontend+" .cpu .num")+`)`)
	b.until("memory measured", `/MiB$/.test(`+text(frontend+" .memory .num")+`)`)
	b.until("a sparkline with a past", `(document.querySelector("`+frontend+` .cpu .spark .line")?.getAttribute('d') ?? '').split('L').length > 2`)
	b.until("request and limit marks", `document.querySelectorAll("`+frontend+` .cpu .tick.request, `+frontend+` .cpu .tick.limit").length >= 2`)
	b.until("node's CPU", `/%/.test(`+text("#tile-cpu .tile-value")+`)`)
	b.until("ingest", `/^[0-9.k]+ samples/.test(`+text("#tile-ingest .tile-value")+`)`)
	b.until("autoscaler", text("[data-hpa='default/guestbook-frontend'] .against")+".includes('/ 60 %')")
	b.until("its measured value", `/[0-9]+ % \/ 60 %/.test(`+text("[data-hpa='default/guestbook-frontend'] .against")+`)`)
	b.until("its decision", text("[data-hpa='default/guestbook-frontend'] [data-decision]")+".length > 10")
	b.until("a firing alert", text("[data-alert='Watchdog'] .tag")+" === 'firing'")
	b.until("a pending alert", text("[data-alert='KubeNodeMemoryHigh'] .tag")+" === 'pending'")
	b.until("an alert with labels", text("[data-alert='KubePodNotReady'] .labels")+".includes('payments')")
	b.until("a warning", text("#warnings")+".includes('Failed to pull image')")
	b.until("a trace", `document.querySelectorAll('#traces [data-trace]').length > 3`)
	b.until("deployments", text("[data-workload='shop/cart']")+".includes('2/2')")
	b.until("requests by verb", `/^[0-9.k<]+$/.test(`+text("[data-verb=POST] td:nth-child(2)")+`) && / (µs|ms|s)$/.test(`+text("[data-verb=POST] td:nth-child(4)")+`)`)
	b.until("seats of a priority level", `/^[0-9]+ of [1-9][0-9]*$/.test(`+text("[data-level=workload-low] td:nth-child(2)")+`)`)
	b.until("a past of requests", `(document.querySelector('#api-requests .line')?.getAttribute('d') ?? '').length > 0`)
	for _, role := range []string{"main", "banner", "navigation", "search"} {
		sel := map[string]string{"main": "main", "banner": "header.bar", "navigation": "nav[aria-label]", "search": "form[role=search]"}[role]
		if b.js(`!!document.querySelector("`+sel+`")`) != "true" {
			t.Errorf("no %s landmark", role)
		}
	}
	if got := b.js(`[...document.querySelectorAll('button, a, input, select')].filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)`); got != "[]" {
		t.Errorf("controls without a name: %s", got)
	}

	t.Log("a pod appears and goes without reloading")
	b.js(`window.marker = 'same page'`)
	s.makePod("newcomer")
	b.until("the new pod", `document.querySelector("[data-pod='default/newcomer']")`)
	b.until("the new pod runs", text("[data-pod='default/newcomer'] .state")+".includes('Running')")
	zero := int64(0)
	must(t, client.Delete[*corev1.Pod](t.Context(), s.client, "default", "newcomer", client.DeleteOptions{GracePeriodSeconds: &zero}))
	b.until("it is gone", `!document.querySelector("[data-pod='default/newcomer']")`)
	if b.js(`window.marker`) != `"same page"` {
		t.Error("the page was loaded again")
	}

	t.Log("load makes the autoscaler act, and the page say why")
	s.agent.setLoad("guestbook-frontend", .42)
	b.until("scaled up", `/Scaled up 2 → [3-8]: cpu/.test(`+text("[data-hpa='default/guestbook-frontend']")+`)`)
	b.until("more pods", `document.querySelectorAll("`+frontend+`").length > 2`)

	t.Log("a silence shows")
	silence(t, s)
	b.until("silenced", text("[data-alert='Watchdog'] .tag")+" === 'firing, silenced'")
	b.until("it is greyed", `document.querySelector("[data-alert='Watchdog']").classList.contains('muted')`)

	t.Log("keys")
	b.press("/")
	b.until("filter has the focus", `document.activeElement.id === 'pod-filter'`)
	b.press("ns:shop -payments")
	if got := b.js(`document.activeElement.value`); got != `"ns:shop -payments"` {
		t.Errorf("the filter is %s", got)
	}
	b.until("three are left", rows+" === 3")
	b.until("how many of how many", text("#pods .note")+".startsWith('3 of ')")
	b.press(kb.Enter)
	b.until("first row has the focus", `document.activeElement.closest('tr')?.dataset.pod.startsWith('shop/cart')`)
	b.press("j")
	b.press("j")
	b.until("third row has the focus", `document.activeElement.closest('tr')?.dataset.pod.startsWith('shop/reports')`)
	b.press("k")
	b.press(kb.Enter)
	b.until("the sheet is open", `document.querySelector('dialog.pod[open]')`)
	b.until("containers", text("dialog [data-container=app]")+".includes('shop/cart:2.1')")
	b.until("a command", text("dialog .command code")+".includes('kubectl logs -f -n shop cart-')")
	b.until("conditions", text("dialog .conditions")+".includes('Ready')")
	b.until("a trace of the pod", `document.querySelector("dialog a[href^='#/trace/']")`)
	b.press(kb.Escape)
	b.until("the sheet is closed", `!document.querySelector('dialog[open]')`)
	b.until("the row has the focus again", `document.activeElement.closest('tr')?.dataset.pod.startsWith('shop/cart')`)
	b.press("/")
	b.empty("pod-filter")
	b.press("no such pod")
	b.until("says that none match", text("#pods .empty")+".includes('No pod matches')")
	b.run(chromedp.Click(chromedp.CSS("#pods .empty button")))
	b.until("all are back", rows+" >= 7")
	b.press(kb.Escape)
	b.press("?")
	b.until("help", text("dialog.help[open]")+".includes('Filter pods')")
	b.press(kb.Escape)
	b.until("help is closed", `!document.querySelector('dialog[open]')`)

	t.Log("PromQL")
	b.empty("promql")
	b.press("count by (job) (up)")
	b.press(kb.Enter)
	b.until("a result", text("table.result")+".includes('apiserver')")
	b.empty("promql")
	b.press("sum by (")
	b.press(kb.Enter)
	b.until("an error", text("#metrics [role=alert]")+".includes('parse error')")

	t.Log("a trace as a waterfall")
	b.js(`scrollTo(0, 0)`)
	open := `(() => { for (const e of document.querySelectorAll('#traces [data-trace] a')) if (/create pods|update deployments|create deployments/.test(e.textContent)) return e.click(), true; return false })()`
	b.until("a trace of a pod's creation", open)
	b.until("its spans", `document.querySelectorAll('dialog .span').length >= 3`)
	b.until("of several services", `document.querySelectorAll('dialog .service').length >= 2`)
	b.run(chromedp.Click(chromedp.CSS("dialog .span:nth-of-type(3) button")))
	b.until("attributes", `document.querySelectorAll('dialog .attrs dt').length > 1`)
	b.shot("trace-light.png")
	b.press(kb.Escape)
	b.until("closed", `!document.querySelector('dialog[open]')`)

	t.Log("light, dark and the choice between them")
	b.js(`(document.activeElement.blur(), scrollTo(0, 0))`)
	light := b.js(`getComputedStyle(document.body).backgroundColor`)
	b.shot("overview-light.png")
	b.media("dark")
	if dark := b.js(`getComputedStyle(document.body).backgroundColor`); dark == light {
		t.Errorf("dark and light have the same background %s", dark)
	}
	b.shot("overview-dark.png")
	b.run(chromedp.Click(chromedp.CSS("#theme")), chromedp.Click(chromedp.CSS("#theme")))
	if got := b.js(`getComputedStyle(document.body).backgroundColor`); got != light {
		t.Errorf("background after choosing light is %s, want %s", got, light)
	}
	b.run(chromedp.Reload())
	b.until("live again", text("#link")+" === 'Live'")
	if got := b.js(`getComputedStyle(document.body).backgroundColor`); got != light {
		t.Errorf("the choice is forgotten: %s", got)
	}
	b.until("the past is there at once", `(document.querySelector("`+frontend+` .cpu .spark .line")?.getAttribute('d') ?? '').split('L').length > 2`)
	b.run(chromedp.Click(chromedp.CSS("#theme")))
	b.run(chromedp.Click(chromedp.CSS(frontend + " a")))
	b.until("sheet", text("dialog [data-container=app]")+".includes('guestbook-frontend:1')")
	b.shot("pod-dark.png")
	b.press(kb.Escape)

	b.save("whole-dark.png", chromedp.FullScreenshot(100))

	t.Log("a phone")
	b.run(chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile))
	b.until("nothing is wider than the phone", `document.documentElement.scrollWidth <= 390`)
	b.shot("phone-top.png")
	b.js(`document.getElementById('pods').scrollIntoView()`)
	b.shot("phone-pods.png")
	b.js(`document.getElementById('api').scrollIntoView()`)
	b.shot("phone-api.png")
	b.js(`document.getElementById('scaling').scrollIntoView()`)
	b.shot("phone-scaling.png")
	b.js(`document.querySelector("` + frontend + ` a").click()`)
	b.until("sheet", text("dialog [data-container=app]")+".includes('guestbook-frontend:1')")
	b.until("the sheet fits", `document.querySelector('dialog').scrollWidth <= 390`)
	b.shot("phone-pod.png")
	b.press(kb.Escape)
	b.run(chromedp.EmulateViewport(1440, 1000))
	b.clean("/api/v1/query?query=sum+by+%28") // wrong on purpose

	t.Log("the stream breaks and comes back")
	b.js(`scrollTo(0, 0)`)
	addr := s.addr
	s.hangUp()
	b.until("a banner", text(".banner")+".includes('is lost')")
	b.until("it says how old the figures are", `/[0-9]+ s old/.test(`+text(".banner")+`)`)
	b.shot("lost-dark.png")
	s.listen(addr)
	b.until("live again", text("#link")+" === 'Live' && !document.querySelector('.banner')")
	s.makePod("afterwards")
	b.until("changes arrive again", `document.querySelector("[data-pod='default/afterwards']")`)
}

func silence(t testing.TB, s *stage) {
	t.Helper()
	now := time.Now().UTC()
	body := fmt.Sprintf(`{"matchers":[{"name":"alertname","value":"Watchdog","isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"test","comment":"known"}`,
		now.Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339))
	res, err := http.Post(s.url+"/alertmanager/api/v2/silences", "application/json", strings.NewReader(body))
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("cannot silence: %s", res.Status)
	}
}

// TestPageOfAnEmptyCluster says what is not there instead of showing nothing.
func TestPageOfAnEmptyCluster(t *testing.T) {
	b := newBrowser(t, 1440, 900)
	s := newStage(t)
	b.media("dark")
	b.run(chromedp.Navigate(s.url + "/"))
	for section, want := range map[string]string{
		"pods": "There are no pods yet", "nodes": "No node has joined", "workloads": "There are no deployments",
		"scaling": "There are no HorizontalPodAutoscalers", "warnings": "No warnings were reported",
	} {
		b.until(section, text("#"+section+" .empty")+".includes('"+want+"')")
	}
	b.shot("empty-dark.png")
	b.clean()
}

// TestPageWithoutMonitoring names what cannot be shown, where it would be.
func TestPageWithoutMonitoring(t *testing.T) {
	b := newBrowser(t, 1440, 900)
	s := apitest.Start(t)
	srv, tel := serve(t, dashboards.Deps{Client: s.Client})
	b.run(chromedp.Navigate(srv.URL + "/"))
	b.until("metrics", text("#tile-ingest")+".includes('the metrics database is not running')")
	b.until("alerts", text("#alerts .problem")+".includes('alerting is not running')")
	b.until("traces", text("#traces .problem")+".includes('tracing is not running')")
	b.until("pods", text("#pods .empty")+".includes('There are no pods yet')")

	t.Log("a page that is left does not hold its stream")
	b.run(chromedp.Navigate("about:blank"))
	eventually(t, "the stream ends", func() bool { return gauge(t, tel, "binnacle_ui_streams") == 0 })
}
