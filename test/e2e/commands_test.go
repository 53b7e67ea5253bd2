package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// observability is where the UI and the query APIs are.
const observability = "http://127.0.0.1:9090"

// commands are programs that scripts run, besides kubectl and curl.
var commands = map[string]func(args []string) error{
	// promql EXPR prints one line a sample: labels, then the value.
	"promql": func(args []string) error {
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
			Error string
		}
		if err := getJSON("/api/v1/query?query="+url.QueryEscape(args[0]), &answer); err != nil {
			return err
		}
		if answer.Error != "" {
			return fmt.Errorf("%s", answer.Error)
		}
		for _, r := range answer.Data.Result {
			var labels []string
			for k, v := range r.Metric {
				labels = append(labels, fmt.Sprintf("%s=%q", k, v))
			}
			slices.Sort(labels)
			fmt.Printf("{%s} %v\n", strings.Join(labels, ","), r.Value[1])
		}
		return nil
	},
	// trace SERVICE TAG=VALUE prints the spans of the newest trace that has
	// such a span: service, operation, duration, by start.
	"trace": func(args []string) error {
		type span struct {
			OperationName, ProcessID string
			StartTime, Duration      int64 // µs
		}
		var answer struct {
			Data []struct {
				Spans     []span
				Processes map[string]struct{ ServiceName string }
			}
		}
		tag, value, _ := strings.Cut(args[1], "=")
		tags, err := json.Marshal(map[string]string{tag: value})
		if err != nil {
			return err
		}
		path := "/jaeger/api/traces?lookback=1h&limit=20&service=" + url.QueryEscape(args[0]) + "&tags=" + url.QueryEscape(string(tags))
		if err := getJSON(path, &answer); err != nil {
			return err
		}
		if len(answer.Data) == 0 {
			return fmt.Errorf("no trace of %s with %s", args[0], args[1])
		}
		// The richest of them: probes and lists have traces of their own.
		best := slices.MaxFunc(answer.Data, func(a, b struct {
			Spans     []span
			Processes map[string]struct{ ServiceName string }
		}) int {
			return len(a.Spans) - len(b.Spans)
		})
		slices.SortFunc(best.Spans, func(a, b span) int { return int(a.StartTime - b.StartTime) })
		for _, s := range best.Spans {
			fmt.Printf("%s: %s %dus\n", best.Processes[s.ProcessID].ServiceName, s.OperationName, s.Duration)
		}
		return nil
	},
	"screen": screen,
	// get URL [HEADER: VALUE] prints the body; it fails on errors of HTTP.
	"get": func(args []string) error {
		req, err := http.NewRequest("GET", args[0], nil)
		if err != nil {
			return err
		}
		for _, h := range args[1:] {
			name, value, _ := strings.Cut(h, ": ")
			req.Header.Set(name, value)
		}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode >= 400 {
			return fmt.Errorf("GET %s: %s", args[0], resp.Status)
		}
		return nil
	},
	// post URL BODY prints the answer.
	"post": func(args []string) error {
		client := &http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := client.Post(args[0], "text/plain", strings.NewReader(args[1]))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		fmt.Println(resp.Status)
		return nil
	},
	// load URL CONNECTIONS SECONDS sends requests as fast as they are answered.
	"load": func(args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		d, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		end := time.Now().Add(time.Duration(d) * time.Second)
		done := make(chan int)
		for range n {
			go func() {
				count := 0
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
				for time.Now().Before(end) {
					resp, err := client.Get(args[0])
					if err != nil {
						continue
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					count++
				}
				done <- count
			}()
		}
		total := 0
		for range n {
			total += <-done
		}
		fmt.Printf("%d requests\n", total)
		return nil
	},
}

func runCommand(name string) int {
	if err := commands[name](os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

func getJSON(path string, into any) error {
	resp, err := http.Get(observability + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// until DURATION REGEXP COMMAND… runs the command until it succeeds and its
// output matches; "until! …" until it does not match.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: until DURATION REGEXP COMMAND [ARG…]")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	begun := time.Now()
	for {
		cmd := exec.Command(args[2], args[3:]...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = scriptEnv(ts)
		if path := ts.Getenv("PATH"); !strings.Contains(args[2], "/") {
			cmd.Path = lookPath(args[2], path)
			cmd.Err = nil
		}
		out, err := cmd.CombinedOutput()
		if err == nil && re.Match(out) != neg {
			ts.Logf("after %.1f s: %s", time.Since(begun).Seconds(), out)
			return
		}
		if time.Since(begun) > limit {
			ts.Fatalf("%v did not match %q within %v: %v\n%s", args[2:], args[1], limit, err, out)
		}
		poll()
	}
}

// poll is the pause between two looks at a running cluster.
func poll() { <-time.After(100 * time.Millisecond) }

func lookPath(name, path string) string {
	for _, dir := range strings.Split(path, ":") {
		if p := dir + "/" + name; isExecutable(p) {
			return p
		}
	}
	return name
}

func isExecutable(p string) bool {
	info, err := os.Stat(p)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

func scriptEnv(ts *testscript.TestScript) (env []string) {
	for _, k := range []string{"PATH", "HOME", "KUBECONFIG", "NODE_IP", "RECEIVED", "TMPDIR", "WORK"} {
		env = append(env, k+"="+ts.Getenv(k))
	}
	return env
}

// validSignature checks DingTalk's signature as its documentation says: the
// base64 of HMAC-SHA256 over "timestamp\nsecret", and a timestamp of the last hour.
func validSignature(r *http.Request, secret string, now time.Time) bool {
	ms, err := strconv.ParseInt(r.URL.Query().Get("timestamp"), 10, 64)
	if err != nil || now.Sub(time.UnixMilli(ms)).Abs() > time.Hour {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d\n%s", ms, secret)
	return r.URL.Query().Get("sign") == base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
