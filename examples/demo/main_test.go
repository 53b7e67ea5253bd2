package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/yaml"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/alerting/dingtalk"
)

func TestRobotVerifiesSignatures(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	at, sign := dingtalk.Sign("SECx", now)
	for name, c := range map[string]struct {
		timestamp, sign, secret string
		ok                      bool
	}{
		"valid":         {at, sign, "SECx", true},
		"other secret":  {at, sign, "SECy", false},
		"other time":    {"1700000000001", sign, "SECx", false},
		"no timestamp":  {"", sign, "SECx", false},
		"old timestamp": {"1600000000000", sign, "SECx", false},
	} {
		req := httptest.NewRequest(http.MethodPost, "/robot/send", nil)
		q := req.URL.Query()
		q.Set("timestamp", c.timestamp)
		q.Set("sign", c.sign)
		req.URL.RawQuery = q.Encode()
		if err := verify(req, c.secret, now.Add(time.Minute)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadCountsAnswers(t *testing.T) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			http.Error(w, "no", http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	r := sendLoad(context.Background(), srv.URL, 100, 300*time.Millisecond)
	if r.sent == 0 || r.answered == 0 || r.failed == 0 || r.answered+r.failed != r.sent {
		t.Errorf("%+v: want all requests either answered or failed", r)
	}
}

func TestTraceIsIndented(t *testing.T) {
	var tr trace
	if err := json.Unmarshal([]byte(`{"traceID":"t1","processes":{"p1":{"serviceName":"apiserver"},"p2":{"serviceName":"etcd"}},"spans":[
		{"spanID":"b","operationName":"etcd.put","processID":"p2","startTime":1500,"duration":300,"references":[{"refType":"CHILD_OF","spanID":"a"}]},
		{"spanID":"a","operationName":"create deployments","processID":"p1","startTime":1000,"duration":2000,"tags":[{"key":"k8s.object.name","value":"frontend"}]},
		{"spanID":"e","operationName":"admission admit","processID":"p1","startTime":1100,"duration":10,"references":[{"refType":"CHILD_OF","spanID":"a"}]},
		{"spanID":"c","operationName":"etcd.put","processID":"p2","startTime":1900,"duration":100,"references":[{"refType":"CHILD_OF","spanID":"a"}]},
		{"spanID":"d","operationName":"orphan","processID":"p2","startTime":2000,"duration":100,"references":[{"refType":"CHILD_OF","spanID":"gone"}]}]}`), &tr); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	tr.print(&b)
	var got []string
	for _, l := range strings.Split(b.String(), "\n") {
		if strings.Contains(l, " ms") {
			got = append(got, strings.Join(strings.Fields(l), " "))
		}
	}
	want := "0.0 ms apiserver: create deployments frontend 2.0 ms|0.5 ms etcd: etcd.put (and 1 more) 0.3 ms|1.0 ms etcd: orphan 0.1 ms"
	if strings.Join(got, "|") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.ReplaceAll(want, "|", "\n"))
	}
	if !strings.Contains(b.String(), "ms    etcd: etcd.put") {
		t.Errorf("children are not indented:\n%s", b.String())
	}
}

// TestConditionIsTheRules holds the latency to the same condition as the alert.
func TestConditionIsTheRules(t *testing.T) {
	b, err := os.ReadFile("rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cm corev1.ConfigMap
	if err := yaml.UnmarshalStrict(b, &cm); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(cm.Data["demo.yaml"], busy) || cm.Name != rules || cm.Namespace != system {
		t.Errorf("rules.yaml and the demo differ: %+v", cm)
	}
}
