package metrics

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

func TestHTTPAPI(t *testing.T) {
	hub := newHub()
	component(hub)
	m := start(t, Config{Address: "192.0.2.1", ExternalLabels: map[string]string{"cluster": "c1"}}, hub, nil, nil)
	eventually(t, m, `apiserver_request_total`, is(7))
	// What a round gathered can be asked for before the round is over.
	for until := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		rec := httptest.NewRecorder()
		if m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/-/ready", nil)); rec.Code == http.StatusOK {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("not ready: %d %s", rec.Code, rec.Body)
		}
	}
	for url, want := range map[string]string{
		"/api/v1/query?query=apiserver_request_total":                                   `"__name__":"apiserver_request_total"`,
		"/api/v1/query_range?query=up&start=" + ago(60) + "&end=" + ago(0) + "&step=15": `"resultType":"matrix"`,
		"/api/v1/series?match[]=apiserver_request_total":                                `"verb":"GET"`,
		"/api/v1/labels":                                                     `"verb"`,
		"/api/v1/label/job/values":                                           `"apiserver"`,
		"/api/v1/metadata?metric=apiserver_request_total":                    `"help":"Requests."`,
		"/api/v1/targets?state=active":                                       `"health":"up"`,
		"/api/v1/targets/metadata?metric=apiserver_request_duration_seconds": `"histogram"`,
		"/api/v1/rules":                                                      `"groups":[]`,
		"/api/v1/alerts":                                                     `"alerts":[]`,
		"/api/v1/alertmanagers":                                              `"activeAlertmanagers":[]`,
		"/api/v1/status/config":                                              `kubernetes-pods`,
		"/api/v1/status/buildinfo":                                           `"version":`,
		"/api/v1/status/runtimeinfo":                                         `"storageRetention":"1d"`,
		"/api/v1/status/flags":                                               `storage.tsdb.path`,
		"/api/v1/status/tsdb":                                                `"numSeries"`,
		"/federate?match[]={job=\"apiserver\",verb=\"GET\"}":                 `apiserver_request_total{cluster="c1",code="200",endpoint="https",instance="192.0.2.1:6443",job="apiserver",namespace="default",service="kubernetes",verb="GET"} 7 `,
		"/-/ready":   "Ready.",
		"/-/healthy": "Healthy.",
	} {
		if got := body(t, m.Handler(), strings.ReplaceAll(strings.ReplaceAll(url, "{", "%7B"), "\"", "%22")); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s in it", url, got, want)
		}
	}
	for url, want := range map[string]int{"/api/v1/query?query=%7B": 400, "/api/v1/nothing": 404, "/federate?match[]=%7B": 400} {
		rec := httptest.NewRecorder()
		m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", url, nil))
		if rec.Code != want {
			t.Errorf("%s: %d, want %d", url, rec.Code, want)
		}
	}
}

func ago(seconds int) string {
	b, _ := json.Marshal(time.Now().Add(-time.Duration(seconds) * time.Second).Unix())
	return string(b)
}

func TestRemoteWrite(t *testing.T) {
	m := start(t, Config{}, newHub(), nil, nil)
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "sent_total"}, {Name: "from", Value: "outside"}},
		Samples: []prompb.Sample{{Value: 5, Timestamp: time.Now().UnixMilli()}},
	}}}
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/api/v1/write", bytes.NewReader(snappy.Encode(nil, b)))
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, r)
	if rec.Code/100 != 2 {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	eventually(t, m, `sent_total{from="outside"}`, is(5))
}

func TestOTLP(t *testing.T) {
	m := start(t, Config{}, newHub(), nil, nil)
	now := uint64(time.Now().UnixNano())
	b, err := proto.Marshal(&collectorpb.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{{Key: "service.name", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: "shop"}}}}},
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{{
			Name: "cart.items",
			Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: []*metricspb.NumberDataPoint{{TimeUnixNano: now, Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: 4}}}}},
		}}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/api/v1/otlp/v1/metrics", bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/x-protobuf")
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, r)
	if rec.Code/100 != 2 {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	eventually(t, m, `{__name__=~"cart[._]items",job="shop"}`, is(4))
}
