package kubestate

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func deployment(e *emitter, d *appsv1.Deployment) {
	e.base = []string{"namespace", d.Namespace, "deployment", d.Name}
	e.time("kube_deployment_created", d.CreationTimestamp)
	e.labels("kube_deployment_labels", d.Labels)
	e.add("kube_deployment_metadata_generation", float64(d.Generation))
	e.add("kube_deployment_status_replicas", float64(d.Status.Replicas))
	e.add("kube_deployment_status_replicas_ready", float64(d.Status.ReadyReplicas))
	e.add("kube_deployment_status_replicas_available", float64(d.Status.AvailableReplicas))
	e.add("kube_deployment_status_replicas_unavailable", float64(d.Status.UnavailableReplicas))
	e.add("kube_deployment_status_replicas_updated", float64(d.Status.UpdatedReplicas))
	e.add("kube_deployment_status_observed_generation", float64(d.Status.ObservedGeneration))
	for _, c := range d.Status.Conditions {
		e.condition("kube_deployment_status_condition", string(c.Status), "condition", string(c.Type), "reason", c.Reason)
	}
	e.int32Ptr("kube_deployment_spec_replicas", d.Spec.Replicas)
	e.flag("kube_deployment_spec_paused", d.Spec.Paused)
	if r := d.Spec.Strategy.RollingUpdate; r != nil && d.Spec.Replicas != nil {
		scaled := func(name string, v *intstr.IntOrString, up bool) {
			if n, err := intstr.GetScaledValueFromIntOrPercent(v, int(*d.Spec.Replicas), up); err == nil && v != nil {
				e.add(name, float64(n))
			}
		}
		scaled("kube_deployment_spec_strategy_rollingupdate_max_unavailable", r.MaxUnavailable, false)
		scaled("kube_deployment_spec_strategy_rollingupdate_max_surge", r.MaxSurge, true)
	}
	e.owners("kube_deployment_owner", d.OwnerReferences)
}

func replicaSet(e *emitter, r *appsv1.ReplicaSet) {
	e.base = []string{"namespace", r.Namespace, "replicaset", r.Name}
	e.time("kube_replicaset_created", r.CreationTimestamp)
	e.labels("kube_replicaset_labels", r.Labels)
	e.add("kube_replicaset_metadata_generation", float64(r.Generation))
	e.add("kube_replicaset_status_replicas", float64(r.Status.Replicas))
	e.add("kube_replicaset_status_fully_labeled_replicas", float64(r.Status.FullyLabeledReplicas))
	e.add("kube_replicaset_status_ready_replicas", float64(r.Status.ReadyReplicas))
	e.add("kube_replicaset_status_observed_generation", float64(r.Status.ObservedGeneration))
	e.int32Ptr("kube_replicaset_spec_replicas", r.Spec.Replicas)
	e.owners("kube_replicaset_owner", r.OwnerReferences)
}

func replicationController(e *emitter, r *corev1.ReplicationController) {
	e.base = []string{"namespace", r.Namespace, "replicationcontroller", r.Name}
	e.time("kube_replicationcontroller_created", r.CreationTimestamp)
	e.add("kube_replicationcontroller_metadata_generation", float64(r.Generation))
	e.add("kube_replicationcontroller_status_replicas", float64(r.Status.Replicas))
	e.add("kube_replicationcontroller_status_fully_labeled_replicas", float64(r.Status.FullyLabeledReplicas))
	e.add("kube_replicationcontroller_status_ready_replicas", float64(r.Status.ReadyReplicas))
	e.add("kube_replicationcontroller_status_available_replicas", float64(r.Status.AvailableReplicas))
	e.add("kube_replicationcontroller_status_observed_generation", float64(r.Status.ObservedGeneration))
	e.int32Ptr("kube_replicationcontroller_spec_replicas", r.Spec.Replicas)
	e.owners("kube_replicationcontroller_owner", r.OwnerReferences)
}

func daemonSet(e *emitter, d *appsv1.DaemonSet) {
	e.base = []string{"namespace", d.Namespace, "daemonset", d.Name}
	e.time("kube_daemonset_created", d.CreationTimestamp)
	e.labels("kube_daemonset_labels", d.Labels)
	e.add("kube_daemonset_metadata_generation", float64(d.Generation))
	e.add("kube_daemonset_status_current_number_scheduled", float64(d.Status.CurrentNumberScheduled))
	e.add("kube_daemonset_status_desired_number_scheduled", float64(d.Status.DesiredNumberScheduled))
	e.add("kube_daemonset_status_number_available", float64(d.Status.NumberAvailable))
	e.add("kube_daemonset_status_number_misscheduled", float64(d.Status.NumberMisscheduled))
	e.add("kube_daemonset_status_number_ready", float64(d.Status.NumberReady))
	e.add("kube_daemonset_status_number_unavailable", float64(d.Status.NumberUnavailable))
	e.add("kube_daemonset_status_observed_generation", float64(d.Status.ObservedGeneration))
	e.add("kube_daemonset_status_updated_number_scheduled", float64(d.Status.UpdatedNumberScheduled))
	e.owners("kube_daemonset_owner", d.OwnerReferences)
}

func statefulSet(e *emitter, s *appsv1.StatefulSet) {
	e.base = []string{"namespace", s.Namespace, "statefulset", s.Name}
	e.time("kube_statefulset_created", s.CreationTimestamp)
	e.labels("kube_statefulset_labels", s.Labels)
	e.add("kube_statefulset_metadata_generation", float64(s.Generation))
	e.int32Ptr("kube_statefulset_replicas", s.Spec.Replicas)
	e.add("kube_statefulset_status_replicas", float64(s.Status.Replicas))
	e.add("kube_statefulset_status_replicas_available", float64(s.Status.AvailableReplicas))
	e.add("kube_statefulset_status_replicas_current", float64(s.Status.CurrentReplicas))
	e.add("kube_statefulset_status_replicas_ready", float64(s.Status.ReadyReplicas))
	e.add("kube_statefulset_status_replicas_updated", float64(s.Status.UpdatedReplicas))
	e.add("kube_statefulset_status_observed_generation", float64(s.Status.ObservedGeneration))
	e.one("kube_statefulset_status_current_revision", "revision", s.Status.CurrentRevision)
	e.one("kube_statefulset_status_update_revision", "revision", s.Status.UpdateRevision)
	e.owners("kube_statefulset_owner", s.OwnerReferences)
}

func job(e *emitter, j *batchv1.Job) {
	e.base = []string{"namespace", j.Namespace, "job_name", j.Name}
	e.one("kube_job_info")
	e.time("kube_job_created", j.CreationTimestamp)
	e.labels("kube_job_labels", j.Labels)
	e.int32Ptr("kube_job_spec_parallelism", j.Spec.Parallelism)
	e.int32Ptr("kube_job_spec_completions", j.Spec.Completions)
	if v := j.Spec.ActiveDeadlineSeconds; v != nil {
		e.add("kube_job_spec_active_deadline_seconds", float64(*v))
	}
	if v := j.Spec.Suspend; v != nil {
		e.flag("kube_job_status_suspended", *v)
	}
	e.add("kube_job_status_active", float64(j.Status.Active))
	e.add("kube_job_status_succeeded", float64(j.Status.Succeeded))
	failed := false
	for _, c := range j.Status.Conditions {
		switch c.Type {
		case batchv1.JobComplete:
			podCondition(e, "kube_job_complete", c.Status)
		case batchv1.JobFailed:
			podCondition(e, "kube_job_failed", c.Status)
			if c.Status == corev1.ConditionTrue {
				failed = true
				for _, reason := range []string{"BackoffLimitExceeded", "DeadlineExceeded", "Evicted"} {
					e.flag("kube_job_status_failed", c.Reason == reason, "reason", reason)
				}
			}
		}
	}
	if !failed {
		e.add("kube_job_status_failed", float64(j.Status.Failed))
	}
	e.timePtr("kube_job_status_start_time", j.Status.StartTime)
	e.timePtr("kube_job_status_completion_time", j.Status.CompletionTime)
	e.owners("kube_job_owner", j.OwnerReferences)
}

func cronJob(e *emitter, j *batchv1.CronJob) {
	e.base = []string{"namespace", j.Namespace, "cronjob", j.Name}
	e.one("kube_cronjob_info", "schedule", j.Spec.Schedule, "concurrency_policy", string(j.Spec.ConcurrencyPolicy))
	e.time("kube_cronjob_created", j.CreationTimestamp)
	e.labels("kube_cronjob_labels", j.Labels)
	e.add("kube_cronjob_status_active", float64(len(j.Status.Active)))
	e.timePtr("kube_cronjob_status_last_schedule_time", j.Status.LastScheduleTime)
	e.timePtr("kube_cronjob_status_last_successful_time", j.Status.LastSuccessfulTime)
	if s := j.Spec.Suspend; s != nil {
		e.flag("kube_cronjob_spec_suspend", *s)
	}
	if v := j.Spec.StartingDeadlineSeconds; v != nil {
		e.add("kube_cronjob_spec_starting_deadline_seconds", float64(*v))
	}
	e.int32Ptr("kube_cronjob_spec_successful_job_history_limit", j.Spec.SuccessfulJobsHistoryLimit)
	e.int32Ptr("kube_cronjob_spec_failed_job_history_limit", j.Spec.FailedJobsHistoryLimit)
}
