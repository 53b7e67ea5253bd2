package ttlafterfinished

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// New returns the controller; its metrics go to reg.
func New(reg prometheus.Registerer) controller.Controller {
	late := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "ttl_after_finished_controller_job_deletion_duration_seconds",
		Help: "Seconds from the end of a job's time to live to its deletion.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
	})
	reg.MustRegister(late)
	return controller.Controller{
		Name:   "ttl-after-finished",
		Inputs: []controller.Input{{Resource: client.Resource{Group: batchv1.GroupName, Resource: "jobs"}, Keys: controller.Self}},
		Writes: []string{"jobs that outlived their time"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			j, ok := controller.Get[*batchv1.Job](s, key.Namespace, key.Name)
			if !ok || j.DeletionTimestamp != nil || j.Spec.TTLSecondsAfterFinished == nil {
				return p, nil
			}
			end, finished := finishedAt(j)
			if !finished {
				return p, nil
			}
			over := s.Now().Sub(end.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second))
			if over < 0 {
				p.Again(-over)
				return p, nil
			}
			p.Add(controller.DeleteWith(j, metav1.DeletePropagationForeground))
			p.Report = func(o controller.Outcome) {
				if o.Err == nil {
					late.Observe((over + o.Took).Seconds())
				}
			}
			return p, nil
		},
	}
}

// finishedAt is when the job became Complete or Failed.
func finishedAt(j *batchv1.Job) (time.Time, bool) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}
