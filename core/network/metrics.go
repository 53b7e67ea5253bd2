package network

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	operations *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	leaked     prometheus.Counter
	repairs    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, n *Network) *metrics {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_network_cni_operations_total",
			Help: "CNI calls served, by operation and CNI error code (0 is success).",
		}, []string{"operation", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "binnacle_network_cni_operation_duration_seconds",
			Help:    "Time to serve a CNI call.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 5},
		}, []string{"operation"}),
		leaked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "binnacle_network_ipam_leaks_total",
			Help: "Addresses taken back because their sandbox was gone.",
		}),
	}
	m.repairs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "binnacle_network_repairs_total",
		Help: "Times the nftables table was not as written and was replaced.",
	})
	reg.MustRegister(m.operations, m.durations, m.leaked, m.repairs, addresses{n, prometheus.NewDesc(
		"binnacle_network_ipam_addresses", "Pod addresses of this node by state.", []string{"state"}, nil)})
	return m
}

func (m *metrics) observe(verb string, failure *types.Error, took time.Duration) {
	code := "0"
	if failure != nil {
		code = strconv.FormatUint(uint64(failure.Code), 10)
	}
	m.operations.WithLabelValues(verb, code).Inc()
	m.durations.WithLabelValues(verb).Observe(took.Seconds())
}

// addresses reports the pool as it is when asked.
type addresses struct {
	n    *Network
	desc *prometheus.Desc
}

func (a addresses) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

func (a addresses) Collect(ch chan<- prometheus.Metric) {
	st := a.n.state.Load()
	if st == nil {
		return
	}
	used := len(st.pool.leases())
	ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, float64(used), "used")
	ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, float64(max(0, st.pool.size()-used)), "free")
}

// decodeRequest reads one request of at most limit bytes.
func decodeRequest(r io.Reader, limit int64) (Request, error) {
	var req Request
	if err := json.NewDecoder(io.LimitReader(r, limit)).Decode(&req); err != nil {
		return req, fmt.Errorf("cannot decode request: %w", err)
	}
	return req, nil
}
