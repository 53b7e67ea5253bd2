package alerting

import (
	"net/http"
	"time"

	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/route"
)

// Prefix is where Handler expects to be mounted.
const Prefix = "/alertmanager"

func newAPI(r *router) (*api.API, error) {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "alertmanager_http_request_duration_seconds", Help: "Histogram of latencies for HTTP requests.", Buckets: prometheus.DefBuckets,
	}, []string{"handler", "method", "code"})
	if err := r.tel.Registry.Register(duration); err != nil {
		return nil, err
	}
	return api.New(api.Options{
		Alerts: r.alerts, Silences: r.silences, GroupMutedFunc: r.marker.Muted, GroupFunc: r.groups,
		Timeout: 30 * time.Second, Logger: r.tel.Log, Registry: r.tel.Registry, RequestDuration: duration,
	})
}

// Handler serves Alertmanager's API v2 under /alertmanager/api/v2/, with
// /alertmanager/-/healthy, -/ready, -/reload (POST), metrics,
// and explain?alertname=…&… (what routing does with such an alert). Before Run has
// started routing, all but -/healthy and metrics answer 503.
func (a *Alerting) Handler() http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) }
	ready := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if a.router.Load() == nil {
				http.Error(w, "alerting is starting", http.StatusServiceUnavailable)
				return
			}
			next(w, r)
		}
	}
	mux.HandleFunc("GET "+Prefix+"/-/healthy", ok)
	mux.HandleFunc("GET "+Prefix+"/-/ready", ready(ok))
	mux.HandleFunc("POST "+Prefix+"/-/reload", ready(func(w http.ResponseWriter, r *http.Request) {
		if err := a.Reload(); err != nil {
			http.Error(w, "failed to reload config: "+err.Error(), http.StatusInternalServerError)
		}
	}))
	mux.HandleFunc("GET "+Prefix+"/explain", ready(a.explain))
	mux.Handle("GET "+Prefix+"/metrics", promhttp.HandlerFor(a.tel.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc(Prefix+"/", ready(func(w http.ResponseWriter, r *http.Request) { a.apiMux.Load().ServeHTTP(w, r) }))
	return mux
}

func (r *router) mux() *http.ServeMux { return r.api.Register(route.New().WithPrefix(Prefix), Prefix) }
