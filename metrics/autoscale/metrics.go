package autoscale

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"binnacle.io/core/client"
)

type controllerMetrics struct {
	total, metricTotal   *prometheus.CounterVec
	duration             *prometheus.HistogramVec
	decisions            *prometheus.CounterVec
	desired, recommended *prometheus.GaugeVec
}

func newControllerMetrics(reg prometheus.Registerer) controllerMetrics {
	const prefix = "horizontal_pod_autoscaler_controller_"
	buckets := []float64{.001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1.024, 2.048, 4.096, 8.192, 16.384}
	m := controllerMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "reconciliations_total",
			Help: "Number of reconciliations of HPA controller. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'.",
		}, []string{"action", "error"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "reconciliation_duration_seconds", Help: "The time(seconds) that the HPA controller takes to reconcile once.", Buckets: buckets,
		}, []string{"action", "error"}),
		metricTotal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "metric_computation_total", Help: "Number of metric computations.",
		}, []string{"action", "error", "metric_type"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_autoscale_decisions_total", Help: "Decisions about each autoscaler's target: scale_up, scale_down, none or error.",
		}, []string{"namespace", "hpa", "action"}),
		desired: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "binnacle_autoscale_desired_replicas", Help: "Size decided on last.",
		}, []string{"namespace", "hpa"}),
		recommended: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "binnacle_autoscale_recommended_replicas", Help: "Size computed last, before stabilisation, policies and bounds.",
		}, []string{"namespace", "hpa"}),
	}
	reg.MustRegister(m.total, m.duration, m.metricTotal, m.decisions, m.desired, m.recommended)
	return m
}

func (m *controllerMetrics) observe(key client.Key, s *State, d *Decision, took time.Duration) {
	action, failed := "none", "none"
	if d.Rescale && s != nil {
		action = "scale_up"
		if d.Desired < s.Replicas {
			action = "scale_down"
		}
	}
	if d.Err != nil {
		failed = "internal"
	}
	m.total.WithLabelValues(action, failed).Inc()
	m.duration.WithLabelValues(action, failed).Observe(took.Seconds())
	for _, p := range d.Proposals {
		wants, failed := "none", "none"
		switch {
		case p.Error != "":
			failed = "internal"
		case p.Replicas > s.Replicas:
			wants = "scale_up"
		case p.Replicas < s.Replicas:
			wants = "scale_down"
		}
		m.metricTotal.WithLabelValues(wants, failed, string(p.Status.Type)).Inc()
	}
	shown := action
	if d.Err != nil {
		shown = "error"
	}
	m.decisions.WithLabelValues(key.Namespace, key.Name, shown).Inc()
	m.desired.WithLabelValues(key.Namespace, key.Name).Set(float64(d.Desired))
	m.recommended.WithLabelValues(key.Namespace, key.Name).Set(float64(d.Recommended))
}

// forget drops the series of an autoscaler that is gone.
func (m *controllerMetrics) forget(key client.Key) {
	l := prometheus.Labels{"namespace": key.Namespace, "hpa": key.Name}
	m.decisions.DeletePartialMatch(l)
	m.desired.DeletePartialMatch(l)
	m.recommended.DeletePartialMatch(l)
}
