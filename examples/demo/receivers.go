package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// receivers take notifications on loopback: a webhook and a DingTalk robot.
type receivers struct {
	line   *timeline
	server *http.Server
	url    string
	// name is new in each run: Alertmanager does not tell a receiver of the
	// same name again what it has told it before.
	name   string
	secret string // the robot's

	mu      sync.Mutex
	arrived map[[2]string]time.Time // first, by receiver and status
	changed chan struct{}           // closed and replaced on arrival
	ended   chan error
}

func startReceivers(line *timeline) (*receivers, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen for notifications: %w", err)
	}
	r := &receivers{
		line: line, url: "http://" + l.Addr().String(), name: "demo-" + rand.Text()[:8], secret: "SEC" + rand.Text(),
		arrived: map[[2]string]time.Time{}, changed: make(chan struct{}), ended: make(chan error, 1),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhook", r.webhook)
	mux.HandleFunc("POST /robot/send", r.robot)
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { r.ended <- r.server.Serve(l) }()
	return r, nil
}

func (r *receivers) Close() {
	r.server.Close()
	<-r.ended
}

// config is the alerting configuration that leads here.
func (r *receivers) config() string {
	return fmt.Sprintf(`# Made by the demo of Binnacle, and deleted by it.
route:
  receiver: nobody
  routes:
  - matchers: [alertname="FrontendBusy", namespace="%s"]
    receiver: %s
    group_by: [alertname]
    group_wait: 0s
    group_interval: 1s
receivers:
- name: nobody
- name: %s
  webhook_configs:
  - url: %s/webhook
  dingtalk_configs:
  - url: %s/robot/send?access_token=demo
    secret: %s
`, namespace, r.name, r.name, r.url, r.url, r.secret)
}

// webhook takes Alertmanager's payload, version 4.
func (r *receivers) webhook(w http.ResponseWriter, req *http.Request) {
	var m struct {
		Version, Status string
		Alerts          []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}
	if err := json.NewDecoder(req.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, a := range m.Alerts {
		r.line.say("webhook", "v%s %s: %s: %s", m.Version, a.Status, a.Labels["alertname"], a.Annotations["description"])
	}
	r.arrive("webhook", m.Status)
}

// robot takes DingTalk's message, if it is signed.
func (r *receivers) robot(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := verify(req, r.secret, time.Now()); err != nil {
		r.line.say("DingTalk", "refused: %v", err)
		fmt.Fprintf(w, `{"errcode":310000,"errmsg":%q}`, "sign not match")
		return
	}
	var m struct {
		MsgType  string
		Markdown struct{ Title, Text string }
	}
	if err := json.NewDecoder(req.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.line.say("DingTalk", "signature valid, %s: %s", m.MsgType, m.Markdown.Title)
	status := "firing"
	if !strings.Contains(m.Markdown.Title, "FIRING") {
		status = "resolved"
	}
	r.arrive("DingTalk", status)
	fmt.Fprint(w, `{"errcode":0,"errmsg":"ok"}`)
}

// verify checks a robot's signature as DingTalk documents it: the base64 of
// HMAC-SHA256 over "timestamp\nsecret", with a timestamp of the last hour.
func verify(req *http.Request, secret string, now time.Time) error {
	q := req.URL.Query()
	ms, err := strconv.ParseInt(q.Get("timestamp"), 10, 64)
	if err != nil {
		return errors.New("the timestamp is not a number of milliseconds")
	}
	if now.Sub(time.UnixMilli(ms)).Abs() > time.Hour {
		return errors.New("the timestamp is more than an hour away")
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d\n%s", ms, secret)
	if !hmac.Equal([]byte(q.Get("sign")), []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))) {
		return errors.New("the signature does not match")
	}
	return nil
}

func (r *receivers) arrive(receiver, status string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := [2]string{receiver, status}
	if _, ok := r.arrived[k]; !ok {
		r.arrived[k] = time.Now()
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// first is when the first notification of a status came.
func (r *receivers) first(receiver, status string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.arrived[[2]string{receiver, status}]
	return at, ok
}

// untilResolved waits for both to hear of the alert and of its end.
func (r *receivers) untilResolved(ctx context.Context, within time.Duration) error {
	late := time.After(within)
	for {
		r.mu.Lock()
		n, changed := len(r.arrived), r.changed
		r.mu.Unlock()
		if n == 4 { // two receivers, firing and resolved
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("not every receiver heard of the alert and of its end within %v: %v", within, r.arrived)
		}
	}
}
