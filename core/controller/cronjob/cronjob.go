package cronjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

var (
	jobs        = client.Resource{Group: batchv1.GroupName, Resource: "jobs"}
	cronJobs    = client.Resource{Group: batchv1.GroupName, Resource: "cronjobs"}
	cronJobKind = batchv1.SchemeGroupVersion.WithKind("CronJob")
)

// New returns the controller; its metrics go to reg.
func New(reg prometheus.Registerer) controller.Controller {
	skew := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "cronjob_controller_job_creation_skew_duration_seconds",
		Help: "Seconds from the time a job was scheduled for to its creation.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
	})
	reg.MustRegister(skew)
	return controller.Controller{
		Name:    "cronjob",
		Workers: 5,
		Inputs: []controller.Input{
			{Resource: cronJobs, Keys: controller.Self},
			{Resource: jobs, Keys: controller.OwnerOf(cronJobKind.Kind)},
		},
		Writes: []string{"cronjobs.batch/status", "jobs of cronjobs"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (controller.Plan, error) {
			c, ok := controller.Get[*batchv1.CronJob](s, key.Namespace, key.Name)
			if !ok {
				return controller.Plan{}, nil
			}
			w := &work{state: s, now: s.Now(), stored: c, next: c.DeepCopy(), jobs: controller.Owned[*batchv1.Job](s, c)}
			return w.reconcile(skew), nil
		},
	}
}

// work is one reconciliation of a CronJob.
type work struct {
	state  controller.State
	now    time.Time
	stored *batchv1.CronJob
	next   *batchv1.CronJob // with the status to store
	jobs   []*batchv1.Job   // that it controls

	plan   controller.Plan
	events []controller.Action // told once the rest is done
}

func (w *work) reconcile(skew prometheus.Observer) controller.Plan {
	w.follow()
	w.forget()
	var start *batchv1.Job
	var at time.Time
	before := w.next.Status.LastScheduleTime
	if w.stored.DeletionTimestamp == nil {
		if start, at = w.schedule(); start != nil {
			w.plan.Add(controller.Create(start))
			w.next.Status.LastScheduleTime = &metav1.Time{Time: at}
			w.tell(corev1.EventTypeNormal, "SuccessfulCreate", "Created job %s", start.Name)
		}
	}
	if !equality.Semantic.DeepEqual(w.stored.Status, w.next.Status) {
		w.plan.Add(controller.Status(w.next))
	}
	w.plan.Add(w.events...)
	w.plan.Failed = func(a controller.Action, err error) []controller.Action {
		switch a.Op {
		case controller.OpDelete:
			return []controller.Action{controller.Event(w.stored, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %s", reason(err))}
		case controller.OpCreate:
			out := []controller.Action{controller.Event(w.stored, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %s", reason(err))}
			w.next.Status.LastScheduleTime = before
			if !equality.Semantic.DeepEqual(w.stored.Status, w.next.Status) {
				out = append(out, controller.Status(w.next))
			}
			return out
		}
		return nil
	}
	w.plan.Report = func(o controller.Outcome) {
		if slices.ContainsFunc(o.Done, func(a controller.Action) bool { return a.Op == controller.OpCreate }) {
			skew.Observe((w.now.Add(o.Took).Sub(at)).Seconds())
		}
	}
	return w.plan
}

func (w *work) tell(eventType, reason, format string, args ...any) {
	w.events = append(w.events, controller.Event(w.stored, eventType, reason, format, args...))
}

// reason is what the API said.
func reason(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}

// follow brings the list of active jobs up to date.
func (w *work) follow() {
	st := &w.next.Status
	there := map[types.UID]bool{}
	for _, j := range w.jobs {
		there[j.UID] = true
		active := slices.ContainsFunc(st.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		end := ended(j)
		switch {
		case end == "" && !active && w.mine(j):
			st.Active = append(st.Active, corev1.ObjectReference{
				APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Namespace: j.Namespace, Name: j.Name, UID: j.UID, ResourceVersion: j.ResourceVersion,
			})
		case end == "" && !active:
			w.tell(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
		case end != "" && active:
			w.drop(j.UID)
			w.tell(corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %s", j.Name, end)
		}
		if w.mine(j) {
			if at := scheduled(j); st.LastScheduleTime == nil || st.LastScheduleTime.Time.Before(at) {
				st.LastScheduleTime = &metav1.Time{Time: at}
			}
		}
		if done := j.Status.CompletionTime; end == batchv1.JobComplete && done != nil && (st.LastSuccessfulTime == nil || st.LastSuccessfulTime.Before(done)) {
			st.LastSuccessfulTime = done
		}
	}
	for _, ref := range slices.Clone(st.Active) {
		if !there[ref.UID] {
			w.drop(ref.UID)
			w.tell(corev1.EventTypeNormal, "MissingJob", "Active job went missing: %s", ref.Name)
		}
	}
}

func (w *work) drop(uid types.UID) {
	w.next.Status.Active = slices.DeleteFunc(slices.Clone(w.next.Status.Active), func(r corev1.ObjectReference) bool { return r.UID == uid })
}

// ended is Complete or Failed, or "" for a job that is neither.
func ended(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// scheduled is the time that a job was made for, zero when it does not say.
func scheduled(j *batchv1.Job) time.Time {
	at, err := time.Parse(time.RFC3339, j.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
	if err != nil {
		return time.Time{}
	}
	return at
}

// mine reports whether this controller made the job, by its name.
func (w *work) mine(j *batchv1.Job) bool {
	at := scheduled(j)
	return !at.IsZero() && j.Name == jobName(w.stored, at)
}

func jobName(c *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", c.Name, at.Unix()/60)
}

// forget deletes the oldest of the finished jobs that history has no room for.
func (w *work) forget() {
	for _, history := range []struct {
		of    batchv1.JobConditionType
		limit *int32
	}{{batchv1.JobComplete, w.stored.Spec.SuccessfulJobsHistoryLimit}, {batchv1.JobFailed, w.stored.Spec.FailedJobsHistoryLimit}} {
		if history.limit == nil {
			continue
		}
		var kept []*batchv1.Job
		for _, j := range w.jobs {
			if ended(j) == history.of && j.DeletionTimestamp == nil {
				kept = append(kept, j)
			}
		}
		slices.SortStableFunc(kept, func(a, b *batchv1.Job) int {
			return cmp.Or(started(a).Compare(started(b)), cmp.Compare(a.Name, b.Name))
		})
		for _, j := range kept[:max(0, len(kept)-int(*history.limit))] {
			w.remove(j)
		}
	}
}

// started is when a job started, or a time after all others.
func started(j *batchv1.Job) time.Time {
	if j.Status.StartTime == nil {
		return time.Unix(1<<40, 0)
	}
	return j.Status.StartTime.Time
}

func (w *work) remove(j *batchv1.Job) {
	w.plan.Add(controller.DeleteWith(j, metav1.DeletePropagationBackground))
	w.drop(j.UID)
	w.tell(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %s", j.Name)
}

// schedule returns the job to start now and the time it is for, if any, and
// sees to it that the next time is not slept through.
func (w *work) schedule() (start *batchv1.Job, at time.Time) {
	c := w.next
	where, err := zone(c)
	if err != nil {
		w.tell(corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", ptr.Deref(c.Spec.TimeZone, ""), err)
		return nil, at
	}
	if ptr.Deref(c.Spec.Suspend, false) {
		return nil, at
	}
	if namesZone(c) {
		w.tell(corev1.EventTypeWarning, "UnsupportedSchedule", "CRON_TZ or TZ used in schedule %q is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", c.Spec.Schedule)
	}
	sched, err := parse(c)
	if err != nil {
		w.tell(corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", c.Spec.Schedule, err)
		return nil, at
	}
	earliest := since(c)
	if limit := c.Spec.StartingDeadlineSeconds; limit != nil {
		if bound := w.now.Add(-time.Duration(*limit) * time.Second); bound.After(earliest) {
			earliest = bound // nothing older is started any more
		}
	}
	at, missed, err := due(sched, earliest, w.now)
	if err != nil {
		w.tell(corev1.EventTypeWarning, "InvalidSchedule", "invalid schedule: %s : %s", c.Spec.Schedule, err)
		return nil, at
	}
	if missed > manyMissed {
		w.tell(corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if missed > 0 {
		start = w.admit(at, where)
	}
	from := c
	if start != nil {
		from = c.DeepCopy()
		from.Status.LastScheduleTime = &metav1.Time{Time: at}
	}
	w.plan.Again(max(untilNext(from, sched, w.now), settle))
	return start, at
}

// admit returns the job for a time, unless it has been served, is too late, or
// the job before it is in its way.
func (w *work) admit(at time.Time, where *time.Location) *batchv1.Job {
	c := w.next
	if limit := c.Spec.StartingDeadlineSeconds; limit != nil && at.Add(time.Duration(*limit)*time.Second).Before(w.now) {
		w.tell(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", at.UTC().Format(time.RFC1123Z))
		return nil
	}
	name := jobName(c, at)
	if _, taken := controller.Get[*batchv1.Job](w.state, c.Namespace, name); taken || c.Status.LastScheduleTime.Equal(&metav1.Time{Time: at}) {
		return nil
	}
	switch {
	case len(c.Status.Active) == 0:
	case c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent:
		w.tell(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return nil
	case c.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		for _, j := range w.jobs {
			if slices.ContainsFunc(c.Status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID }) {
				w.remove(j)
			}
		}
	}
	t := &c.Spec.JobTemplate
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.In(where).Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(w.stored, cronJobKind)},
		},
		Spec: *t.Spec.DeepCopy(),
	}
}
