package job

import (
	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/controller"
)

// What a reconciliation did about pods, by upstream's names.
const (
	actionTracking = "tracking"
	actionCreated  = "pods_created"
	actionDeleted  = "pods_deleted"
)

const (
	succeededLabel = "succeeded"
	failedLabel    = "failed"
)

// metrics have upstream's names.
type metrics struct {
	took                                                               *prometheus.HistogramVec
	syncs, finished, podsFinished, byPolicy, indexesFinished, creation *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "job_controller_" + name, Help: help}, labels)
	}
	m := &metrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "job_controller_job_sync_duration_seconds", Help: "Seconds that reconciling a job took.",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 15),
		}, []string{"completion_mode", "result", "action"}),
		syncs:           counter("job_syncs_total", "Reconciliations of jobs.", "completion_mode", "result", "action"),
		finished:        counter("jobs_finished_total", "Jobs that finished.", "completion_mode", "result", "reason"),
		podsFinished:    counter("job_pods_finished_total", "Pods that ended and are counted.", "completion_mode", "result"),
		byPolicy:        counter("pod_failures_handled_by_failure_policy_total", "Failed pods that a rule of the pod failure policy matched, by the rule's action.", "action"),
		indexesFinished: counter("job_finished_indexes_total", "Indexes that finished.", "status", "backoffLimit"),
		creation:        counter("job_pods_creation_total", "Pods that were to be made, by reason: new, recreate_terminating_or_failed, recreate_failed.", "reason", "status"),
	}
	reg.MustRegister(m.took, m.syncs, m.finished, m.podsFinished, m.byPolicy, m.indexesFinished, m.creation)
	return m
}

// whyCreate is the reason label of pods made now.
func (w *work) whyCreate() string {
	switch {
	case w.failed > 0 && ptr.Deref(w.job.Spec.PodReplacementPolicy, "") == batchv1.Failed:
		return "recreate_failed"
	case w.failed > 0 || w.running.terminating > 0:
		return "recreate_terminating_or_failed"
	}
	return "new"
}

// observe counts what has been done.
func (m *metrics) observe(w *work, o controller.Outcome) {
	mode := string(ptr.Deref(w.job.Spec.CompletionMode, batchv1.NonIndexedCompletion))
	result := "success"
	if o.Err != nil {
		result = "error"
	}
	m.took.WithLabelValues(mode, result, w.action).Observe(o.Took.Seconds())
	m.syncs.WithLabelValues(mode, result, w.action).Inc()
	if w.createFailed {
		m.creation.WithLabelValues(w.recreation, failedLabel).Inc()
	}
	for _, a := range o.Done {
		switch a.Op {
		case controller.OpCreate:
			m.creation.WithLabelValues(w.recreation, succeededLabel).Inc()
		case controller.OpStatus:
			m.stored(w, mode)
		}
	}
}

// stored counts what a status says that was stored.
func (m *metrics) stored(w *work, mode string) {
	before, after := &w.job.Status, &w.books.status
	more := func(c *prometheus.CounterVec, n int, labels ...string) {
		if n > 0 { // fewer after completions were lowered
			c.WithLabelValues(labels...).Add(float64(n))
		}
	}
	more(m.podsFinished, int(after.Succeeded-before.Succeeded), mode, succeededLabel)
	more(m.podsFinished, int(after.Failed-before.Failed), mode, failedLabel)
	for action, n := range w.books.policies {
		m.byPolicy.WithLabelValues(string(action)).Add(float64(n))
	}
	if f := w.books.finished; f != nil {
		result := succeededLabel
		if f.Type == batchv1.JobFailed {
			result = failedLabel
		}
		m.finished.WithLabelValues(mode, result, f.Reason).Inc()
	}
	if !indexed(w.job) {
		return
	}
	limit := "global"
	if perIndex(w.job) {
		limit = "perIndex"
	}
	n := int(*w.job.Spec.Completions)
	grown := func(before, after string) int {
		return parseIndexes(after, n).count() - parseIndexes(before, n).count()
	}
	more(m.indexesFinished, grown(before.CompletedIndexes, after.CompletedIndexes), succeededLabel, limit)
	more(m.indexesFinished, grown(ptr.Deref(before.FailedIndexes, ""), ptr.Deref(after.FailedIndexes, "")), failedLabel, limit)
}
