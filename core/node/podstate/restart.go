package podstate

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The crash and image back-offs are upstream's: doubling from 10 s to 5 min,
// forgotten after a run of 10 min.
const (
	BackOffBase  = 10 * time.Second
	BackOffMax   = 5 * time.Minute
	backOffReset = 2 * BackOffMax
)

// RestartDelay returns how long after its end a container that has been
// restarted n times in a row is started again. The first restart is at once.
func RestartDelay(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	return Doubling(BackOffBase, BackOffMax, n)
}

// Doubling returns base·2^(n-1), at most limit; n counts from 1.
func Doubling(base, limit time.Duration, n int) time.Duration {
	d := base
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	return min(d, limit)
}

// RanLong reports whether a run was long enough to forget earlier crashes.
func RanLong(started, finished time.Time) bool {
	return !started.IsZero() && finished.Sub(started) >= backOffReset
}

// IsSidecar reports whether an init container runs along with the pod.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// restartsAfter reports whether a container that ended with code runs again.
func restartsAfter(pod *corev1.Pod, c *corev1.Container, init bool, code int32) bool {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		has := slices.Contains(rule.ExitCodes.Values, code)
		if has == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return rule.Action == corev1.ContainerRestartRuleActionRestart
		}
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return !init || IsSidecar(c) || code != 0
}

func crashMessage(pod *corev1.Pod, container string, delay time.Duration) string {
	return fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", delay, container, pod.Name, pod.Namespace, pod.UID)
}

// Grace returns the pod's termination grace period.
func Grace(pod *corev1.Pod) time.Duration {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return max(time.Duration(*pod.DeletionGracePeriodSeconds)*time.Second, time.Second)
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return 30 * time.Second
}
