package podstate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// conditions sets the conditions the node owns; others stay as they are.
func (v *view) conditions(st *corev1.PodStatus) {
	set := func(t corev1.PodConditionType, ok bool, reason, message string) {
		v.setCondition(st, corev1.PodCondition{Type: t, Status: truth(ok), Reason: reason, Message: message})
	}
	done := st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed
	set(corev1.PodReadyToStartContainers, v.sandboxReady() && !done, "", "")

	if names := v.resized(); len(names) > 0 && !done {
		set(corev1.PodResizePending, true, corev1.PodReasonInfeasible, fmt.Sprintf("this node does not resize running containers: [%s]", strings.Join(names, " ")))
	} else {
		st.Conditions = slices.DeleteFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
	}

	initDone, pending := v.initialized()
	switch {
	case st.Phase == corev1.PodSucceeded && (initDone || len(v.Containers) == 0):
		set(corev1.PodInitialized, true, "PodCompleted", "")
	case initDone:
		set(corev1.PodInitialized, true, "", "")
	default:
		set(corev1.PodInitialized, false, "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(pending, " ")))
	}

	switch st.Phase {
	case corev1.PodSucceeded:
		set(corev1.ContainersReady, false, "PodCompleted", "")
		set(corev1.PodReady, false, "PodCompleted", "")
		return
	case corev1.PodFailed:
		set(corev1.ContainersReady, false, "PodFailed", "")
		set(corev1.PodReady, false, "PodFailed", "")
		return
	}
	var unready []string
	for i := range v.Pod.Spec.InitContainers {
		if IsSidecar(&v.Pod.Spec.InitContainers[i]) && !st.InitContainerStatuses[i].Ready {
			unready = append(unready, v.Pod.Spec.InitContainers[i].Name)
		}
	}
	for i := range v.Pod.Spec.Containers {
		name := v.Pod.Spec.Containers[i].Name
		if j := slices.IndexFunc(st.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == name }); !st.ContainerStatuses[j].Ready {
			unready = append(unready, name)
		}
	}
	if len(unready) > 0 {
		msg := fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
		set(corev1.ContainersReady, false, "ContainersNotReady", msg)
		set(corev1.PodReady, false, "ContainersNotReady", msg)
		return
	}
	set(corev1.ContainersReady, true, "", "")
	if gates := v.closedGates(st); len(gates) > 0 {
		set(corev1.PodReady, false, "ReadinessGatesNotReady", strings.Join(gates, ", "))
		return
	}
	set(corev1.PodReady, true, "", "")
}

// closedGates says which readiness gates are not open.
func (v *view) closedGates(st *corev1.PodStatus) []string {
	var out []string
	for _, g := range v.Pod.Spec.ReadinessGates {
		i := slices.IndexFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == g.ConditionType })
		if i < 0 {
			out = append(out, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(g.ConditionType)))
		} else if st.Conditions[i].Status != corev1.ConditionTrue {
			out = append(out, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(g.ConditionType), st.Conditions[i].Status))
		}
	}
	return out
}

func (v *view) setCondition(st *corev1.PodStatus, c corev1.PodCondition) {
	c.ObservedGeneration = v.Pod.Generation
	c.LastTransitionTime = stamp(v.Now)
	i := slices.IndexFunc(st.Conditions, func(o corev1.PodCondition) bool { return o.Type == c.Type })
	if i < 0 {
		st.Conditions = append(st.Conditions, c)
		return
	}
	if st.Conditions[i].Status == c.Status {
		c.LastTransitionTime = st.Conditions[i].LastTransitionTime
	}
	st.Conditions[i] = c
}

func truth(ok bool) corev1.ConditionStatus {
	if ok {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
