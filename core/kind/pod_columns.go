package kind

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

func podColumns() []Column {
	return named[*corev1.Pod]().
		text("Ready", "The aggregate readiness state of this pod for accepting traffic.", func(p *corev1.Pod) string {
			s := summarize(p)
			return fmt.Sprintf("%d/%d", s.ready, s.total)
		}).
		text("Status", "The aggregate status of the containers in this pod.", func(p *corev1.Pod) string { return summarize(p).reason }).
		at("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
			func(p *corev1.Pod, now time.Time) string {
				s := summarize(p)
				if s.restarts == 0 || s.lastRestart.IsZero() {
					return strconv.Itoa(s.restarts)
				}
				return fmt.Sprintf("%d (%s ago)", s.restarts, duration.HumanDuration(now.Sub(s.lastRestart)))
			}).
		age().
		text("IP", corev1.PodStatus{}.SwaggerDoc()["podIP"], func(p *corev1.Pod) string {
			if len(p.Status.PodIPs) > 0 {
				return orNone(p.Status.PodIPs[0].IP)
			}
			return orNone(p.Status.PodIP)
		}).wide().
		text("Node", corev1.PodSpec{}.SwaggerDoc()["nodeName"], func(p *corev1.Pod) string { return orNone(p.Spec.NodeName) }).wide().
		text("Nominated Node", corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"], func(p *corev1.Pod) string {
			return orNone(p.Status.NominatedNodeName)
		}).wide().
		text("Readiness Gates", corev1.PodSpec{}.SwaggerDoc()["readinessGates"], readinessGates).wide()
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	met := 0
	for _, g := range p.Spec.ReadinessGates {
		for _, c := range p.Status.Conditions {
			if c.Type == g.ConditionType {
				if c.Status == corev1.ConditionTrue {
					met++
				}
				break
			}
		}
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}

// podSummary is a pod in one line.
type podSummary struct {
	reason       string
	ready, total int
	restarts     int
	lastRestart  time.Time
}

func summarize(p *corev1.Pod) podSummary {
	s := podSummary{total: len(p.Spec.Containers), reason: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.reason = corev1.PodReasonSchedulingGated
		}
	}

	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if deref(p.Spec.InitContainers[i].RestartPolicy) == corev1.ContainerRestartPolicyAlways {
			sidecars[p.Spec.InitContainers[i].Name] = true
			s.total++
		}
	}
	initializing, sidecarRestarts, lastSidecar := s.initContainers(p, sidecars)
	if !initializing || conditionTrue(p, corev1.PodInitialized) {
		s.restarts, s.lastRestart = sidecarRestarts, lastSidecar
		s.containers(p)
	}

	if p.DeletionTimestamp != nil && p.Status.Reason == "NodeLost" {
		s.reason = "Unknown"
	} else if p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
		s.reason = "Terminating"
	}
	return s
}

// initContainers says whether the pod still initializes, and how often its
// sidecars were restarted.
func (s *podSummary) initContainers(p *corev1.Pod, sidecars map[string]bool) (initializing bool, restarts int, last time.Time) {
	for i := range p.Status.InitContainerStatuses {
		st := &p.Status.InitContainerStatuses[i]
		s.restarted(st)
		if sidecars[st.Name] {
			restarts += int(st.RestartCount)
			if t := endOfLast(st); t.After(last) {
				last = t
			}
		}
		switch {
		case st.State.Terminated != nil && st.State.Terminated.ExitCode == 0:
			continue
		case sidecars[st.Name] && deref(st.Started):
			if st.Ready {
				s.ready++
			}
			continue
		case st.State.Terminated != nil:
			s.reason = "Init:" + ended(st.State.Terminated)
		case st.State.Waiting != nil && st.State.Waiting.Reason != "" && st.State.Waiting.Reason != "PodInitializing":
			s.reason = "Init:" + st.State.Waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, restarts, last
	}
	return false, restarts, last
}

// containers finds the state of the regular containers: the first that is not
// well speaks for the pod.
func (s *podSummary) containers(p *corev1.Pod) {
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		st := &p.Status.ContainerStatuses[i]
		s.restarted(st)
		switch {
		case st.State.Waiting != nil && st.State.Waiting.Reason != "":
			s.reason = st.State.Waiting.Reason
		case st.State.Terminated != nil:
			s.reason = ended(st.State.Terminated)
		case st.Ready && st.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason == "Completed" && running {
		s.reason = "NotReady"
		if conditionTrue(p, corev1.PodReady) {
			s.reason = "Running"
		}
	}
}

func (s *podSummary) restarted(st *corev1.ContainerStatus) {
	s.restarts += int(st.RestartCount)
	if t := endOfLast(st); t.After(s.lastRestart) {
		s.lastRestart = t
	}
}

func endOfLast(st *corev1.ContainerStatus) time.Time {
	if st.LastTerminationState.Terminated != nil {
		return st.LastTerminationState.Terminated.FinishedAt.Time
	}
	return time.Time{}
}

// ended says why a container ended.
func ended(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func conditionTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}
