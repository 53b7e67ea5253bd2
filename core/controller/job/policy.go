package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	backoffFirst = 10 * time.Second
	backoffMost  = 10 * time.Minute
)

// judgement is what a job's pod failure policy says about a failed pod.
type judgement struct {
	// counts towards the back-off limits.
	counts bool
	// action of the rule that matched, "" for none.
	action batchv1.PodFailurePolicyAction
	// why says what matched, for FailJob.
	why string
}

func judge(j *batchv1.Job, pod *corev1.Pod) judgement {
	if j.Spec.PodFailurePolicy == nil {
		return judgement{counts: true}
	}
	for i, rule := range j.Spec.PodFailurePolicy.Rules {
		why := ""
		if rule.OnExitCodes != nil {
			if c := exited(pod, rule.OnExitCodes); c != nil {
				why = fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %s rule at index %d",
					c.Name, pod.Namespace, pod.Name, c.State.Terminated.ExitCode, rule.Action, i)
			}
		} else if c := conditioned(pod, rule.OnPodConditions); c != nil {
			why = fmt.Sprintf("Pod %s/%s has condition %s matching %s rule at index %d", pod.Namespace, pod.Name, c.Type, rule.Action, i)
		}
		if why != "" {
			return judgement{counts: rule.Action != batchv1.PodFailurePolicyActionIgnore, action: rule.Action, why: why}
		}
	}
	return judgement{counts: true}
}

// exited finds a container that ended with an exit code the rule is about.
func exited(pod *corev1.Pod, rule *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i, c := range statuses {
			if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || rule.ContainerName != nil && *rule.ContainerName != c.Name {
				continue
			}
			listed := slices.Contains(rule.Values, c.State.Terminated.ExitCode)
			if listed == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return &statuses[i]
			}
		}
	}
	return nil
}

func conditioned(pod *corev1.Pod, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) *corev1.PodCondition {
	for i, c := range pod.Status.Conditions {
		for _, p := range patterns {
			if c.Type == p.Type && c.Status == p.Status {
				return &pod.Status.Conditions[i]
			}
		}
	}
	return nil
}

// enough says by which rule of its success policy the job has succeeded, "" by none.
func enough(j *batchv1.Job, succeeded indexes) string {
	if j.Spec.SuccessPolicy == nil || len(succeeded) == 0 {
		return ""
	}
	for i, rule := range j.Spec.SuccessPolicy.Rules {
		of, all := succeeded.count(), -1
		if rule.SucceededIndexes != nil {
			want := parseIndexes(*rule.SucceededIndexes, int(*j.Spec.Completions))
			if len(want) == 0 {
				continue
			}
			of, all = want.common(succeeded), want.count()
		}
		if of == all || rule.SucceededCount != nil && of >= int(*rule.SucceededCount) {
			return fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return ""
}

func perIndex(j *batchv1.Job) bool { return indexed(j) && j.Spec.BackoffLimitPerIndex != nil }

// indexFailed reports whether a failed pod is the last try of its index.
func indexFailed(j *batchv1.Job, pod *corev1.Pod) bool {
	verdict := judge(j, pod)
	if verdict.action == batchv1.PodFailurePolicyActionFailIndex {
		return true
	}
	before, _ := failures(pod)
	return verdict.counts && before >= *j.Spec.BackoffLimitPerIndex
}

// backoff is how much longer to wait after so many failures in a row.
func backoff(failures int, last, now time.Time) time.Duration {
	if failures == 0 {
		return 0
	}
	wait := backoffFirst
	for i := 1; i < failures && wait < backoffMost; i++ {
		wait *= 2
	}
	return max(0, min(wait, backoffMost)-now.Sub(last))
}

// pause is how long the job must wait before it replaces pods, by the failures
// since its last success.
func pause(j *batchv1.Job, pods []*corev1.Pod, now time.Time) time.Duration {
	var success, failure time.Time
	for _, pod := range pods {
		if at := ended(pod); pod.Status.Phase == corev1.PodSucceeded && at.After(success) {
			success = at
		}
	}
	n := 0
	for _, pod := range pods {
		if !failed(j, pod) {
			continue
		}
		if at := ended(pod); at.After(success) {
			n++
			if at.After(failure) {
				failure = at
			}
		}
	}
	return backoff(n, failure, now)
}

// restartsExhausted reports whether containers that are restarted in place
// failed more often than the job's limit.
func restartsExhausted(j *batchv1.Job, pods []*corev1.Pod) bool {
	if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var restarts int32
	for _, pod := range pods {
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodPending {
			continue
		}
		for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			restarts += c.RestartCount
		}
	}
	return restarts >= max(1, *j.Spec.BackoffLimit)
}
