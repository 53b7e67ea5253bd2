package dashboards

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

// recorded is a database with an engine.
type recorded struct {
	engine *promql.Engine
	store  storage.Queryable
}

func (r recorded) Engine() *promql.Engine       { return r.engine }
func (r recorded) Queryable() storage.Queryable { return r.store }

func TestAPIView(t *testing.T) {
	view := func(t *testing.T, series string) string {
		t.Helper()
		series = strings.ReplaceAll(series, "\n\t\t\t", "\n  ")
		m := recorded{promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery), promqltest.LoadedStorage(t, "load 15s"+series)}
		v, err := querier{m}.api(t.Context(), time.Unix(300, 0))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, c := range map[string]struct{ series, want string }{
		"nothing is measured": {"", `{"rate":null,"auditErrors":null,"verbs":[],"levels":[],"slow":[],"store":{"inUse":null,"file":null,"quota":null,"full":""}}`},
		"requests": {`
			apiserver_request_total{verb="LIST",code="200"} 0+30x20
			apiserver_request_total{verb="LIST",code="503"} 0+15x20
			apiserver_request_total{verb="GET",code="404"} 0+15x20
			apiserver_longrunning_requests{verb="WATCH",resource="pods"} 3x20
			apiserver_longrunning_requests{verb="WATCH",resource="nodes"} 2x20
			apiserver_request_sli_duration_seconds_bucket{verb="LIST",resource="pods",le="0.5"} 0+10x20
			apiserver_request_sli_duration_seconds_bucket{verb="LIST",resource="pods",le="1.0"} 0+10x20
			apiserver_request_sli_duration_seconds_bucket{verb="LIST",resource="pods",le="+Inf"} 0+15x20
			apiserver_request_sli_duration_seconds_count{verb="LIST",resource="pods"} 0+15x20
			apiserver_request_sli_duration_seconds_bucket{verb="LIST",resource="nodes",le="1.0"} 0+1x20
			apiserver_request_sli_duration_seconds_count{verb="LIST",resource="nodes"} 0+1x20`,
			`{"rate":4,"auditErrors":null,"verbs":[` +
				`{"verb":"GET","rate":1,"errors":null,"open":null,"median":null,"p99":null},` +
				`{"verb":"LIST","rate":3,"errors":1,"open":null,"median":0.375,"p99":1},` +
				`{"verb":"WATCH","rate":null,"errors":null,"open":5,"median":null,"p99":null}],` +
				`"levels":[],"slow":[{"verb":"LIST","resource":"pods","count":100}],"store":{"inUse":null,"file":null,"quota":null,"full":""}}`},
		"priority levels": {`
			apiserver_flowcontrol_current_limit_seats{priority_level="system"} 30x20
			apiserver_flowcontrol_current_executing_seats{priority_level="system",flow_schema="system-nodes"} 3x20
			apiserver_flowcontrol_current_executing_seats{priority_level="system",flow_schema="other"} 4x20
			apiserver_flowcontrol_demand_seats_high_watermark{priority_level="system"} 12x20
			apiserver_flowcontrol_current_inqueue_seats{priority_level="system",flow_schema="other"} 2x20
			apiserver_flowcontrol_rejected_requests_total{priority_level="system",flow_schema="other",reason="queue-full"} 0+15x20
			apiserver_flowcontrol_rejected_requests_total{priority_level="system",flow_schema="other",reason="time-out"} 0+15x20
			apiserver_flowcontrol_current_limit_seats{priority_level="exempt"} 0x20`,
			`{"rate":null,"auditErrors":null,"verbs":[],"levels":[` +
				`{"name":"exempt","seats":0,"used":null,"peak":null,"queued":null,"refused":null},` +
				`{"name":"system","seats":30,"used":7,"peak":12,"queued":2,"refused":2}],` +
				`"slow":[],"store":{"inUse":null,"file":null,"quota":null,"full":""}}`},
		"a full store, and an audit log that fails": {`
			etcd_mvcc_db_total_size_in_use_in_bytes{job="etcd"} 90x20
			etcd_mvcc_db_total_size_in_bytes{job="etcd"} 95x20
			binnacle_store_quota_bytes{job="etcd"} 90x20
			binnacle_store_full{reason="quota"} 1x20
			binnacle_store_full{reason="disk"} 0x20
			apiserver_audit_error_total{plugin="log"} 0+1x20`,
			`{"rate":null,"auditErrors":20,"verbs":[],"levels":[],"slow":[],"store":{"inUse":90,"file":95,"quota":90,"full":"quota"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := view(t, c.series); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
