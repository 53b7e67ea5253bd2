package dashboards

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
)

// level says how a state is to be taken; the page gives it a colour and a mark.
type level string

const (
	levelOK       level = "ok"
	levelProgress level = "progress"
	levelWarn     level = "warn"
	levelError    level = "error"
	levelDone     level = "done"
)

// podView is a row of the pods table. Times are Unix milliseconds.
type podView struct {
	Namespace string `json:"ns"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Owner     string `json:"owner,omitempty"` // Kind/name of what a person created
	Status    string `json:"status"`
	Level     level  `json:"level"`
	Message   string `json:"message,omitempty"`
	Ready     int    `json:"ready"`
	Total     int    `json:"total"`
	Restarts  int32  `json:"restarts"`
	Created   int64  `json:"created"`
	Node      string `json:"node,omitempty"`
	IP        string `json:"ip,omitempty"`
	resources
}

// resources are what containers ask for and may use together: cores, bytes.
// Zero is none.
type resources struct {
	CPURequest    float64 `json:"cpuRequest,omitempty"`
	CPULimit      float64 `json:"cpuLimit,omitempty"`
	MemoryRequest float64 `json:"memoryRequest,omitempty"`
	MemoryLimit   float64 `json:"memoryLimit,omitempty"`
}

// owners resolves the object a person made from the chain of controllers.
type owners func(namespace string, refs []metav1.OwnerReference) string

func viewPod(p *corev1.Pod, owner owners) podView {
	status, lv, message := podStatus(p)
	v := podView{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Owner: owner(p.Namespace, p.OwnerReferences),
		Status: status, Level: lv, Message: message, Total: len(p.Spec.Containers),
		Created: p.CreationTimestamp.UnixMilli(), Node: p.Spec.NodeName, IP: p.Status.PodIP,
		resources: podResources(&p.Spec),
	}
	for _, i := range p.Spec.InitContainers {
		if sidecar(&i) {
			v.Total++
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		v.Restarts += c.RestartCount
		if c.Ready {
			v.Ready++
		}
	}
	for i, c := range p.Status.InitContainerStatuses {
		if i < len(p.Spec.InitContainers) && sidecar(&p.Spec.InitContainers[i]) {
			v.Restarts += c.RestartCount
			if c.Ready {
				v.Ready++
			}
		}
	}
	return v
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// podResources sums the containers that run together: steady use is held
// against it, so init containers that end do not count. A limit exists only
// where every container has one.
func podResources(spec *corev1.PodSpec) resources {
	running := slices.Clone(spec.Containers)
	for _, c := range spec.InitContainers {
		if sidecar(&c) {
			running = append(running, c)
		}
	}
	var r resources
	cpuLimited, memoryLimited := len(running) > 0, len(running) > 0
	for i := range running {
		res := &running[i].Resources
		r.CPURequest += res.Requests.Cpu().AsApproximateFloat64()
		r.MemoryRequest += res.Requests.Memory().AsApproximateFloat64()
		r.CPULimit += res.Limits.Cpu().AsApproximateFloat64()
		r.MemoryLimit += res.Limits.Memory().AsApproximateFloat64()
		cpuLimited = cpuLimited && !res.Limits.Cpu().IsZero()
		memoryLimited = memoryLimited && !res.Limits.Memory().IsZero()
	}
	if !cpuLimited {
		r.CPULimit = 0
	}
	if !memoryLimited {
		r.MemoryLimit = 0
	}
	return r
}

// podStatus is what kubectl shows as STATUS, how to take it, and a sentence
// about it where there is one.
func podStatus(p *corev1.Pod) (status string, lv level, message string) {
	if p.DeletionTimestamp != nil {
		return "Terminating", levelProgress, ""
	}
	if p.Status.Reason != "" && (p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodPending) {
		return p.Status.Reason, levelError, p.Status.Message
	}
	for i := range p.Status.InitContainerStatuses {
		if status, lv, message, held := initStatus(p, i); held {
			return status, lv, message
		}
	}
	if status, lv, message, found := worstContainer(p); found {
		return status, lv, message
	}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		return "Completed", levelDone, ""
	case corev1.PodFailed:
		return "Failed", levelError, p.Status.Message
	case corev1.PodRunning:
		if c := condition(p, corev1.PodReady); c == nil || c.Status != corev1.ConditionTrue {
			m := "not ready"
			if c != nil && c.Message != "" {
				m = c.Message
			}
			return "Running", levelWarn, m
		}
		return "Running", levelOK, ""
	}
	if c := condition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		if c.Reason == corev1.PodReasonUnschedulable {
			return "Pending", levelWarn, c.Message
		}
		return "Pending", levelProgress, c.Message
	}
	return cmp.Or(string(p.Status.Phase), "Pending"), levelProgress, ""
}

// initStatus tells whether an init container holds the pod up.
func initStatus(p *corev1.Pod, i int) (string, level, string, bool) {
	c := &p.Status.InitContainerStatuses[i]
	switch s := c.State; {
	case s.Terminated != nil && s.Terminated.ExitCode == 0:
		return "", "", "", false
	case c.Started != nil && *c.Started && i < len(p.Spec.InitContainers) && sidecar(&p.Spec.InitContainers[i]):
		return "", "", "", false
	case s.Terminated != nil:
		return "Init:" + cmp.Or(s.Terminated.Reason, fmt.Sprintf("ExitCode:%d", s.Terminated.ExitCode)), levelError, containerText(c.Name, s.Terminated.Message), true
	case s.Waiting != nil && s.Waiting.Reason != "" && s.Waiting.Reason != "PodInitializing":
		return "Init:" + s.Waiting.Reason, waitingLevel(s.Waiting.Reason), containerText(c.Name, s.Waiting.Message), true
	}
	return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers)), levelProgress, containerText(c.Name, "has not finished"), true
}

// worstContainer is the state of the container that fares worst, when one does
// not simply run.
func worstContainer(p *corev1.Pod) (status string, lv level, message string, found bool) {
	rank := map[level]int{levelDone: 1, levelProgress: 2, levelWarn: 3, levelError: 4}
	take := func(s string, l level, m string) {
		if rank[l] > rank[lv] {
			status, lv, message, found = s, l, m, true
		}
	}
	for i := range p.Status.ContainerStatuses {
		c := &p.Status.ContainerStatuses[i]
		switch s := c.State; {
		case s.Waiting != nil && s.Waiting.Reason != "":
			take(s.Waiting.Reason, waitingLevel(s.Waiting.Reason), containerText(c.Name, s.Waiting.Message))
		case s.Terminated != nil && s.Terminated.ExitCode == 0:
			if p.Status.Phase == corev1.PodSucceeded {
				take(cmp.Or(s.Terminated.Reason, "Completed"), levelDone, "")
			}
		case s.Terminated != nil:
			reason := cmp.Or(s.Terminated.Reason, fmt.Sprintf("ExitCode:%d", s.Terminated.ExitCode))
			take(reason, levelError, containerText(c.Name, cmp.Or(s.Terminated.Message, fmt.Sprintf("exit code %d", s.Terminated.ExitCode))))
		}
	}
	return status, lv, message, found
}

func waitingLevel(reason string) level {
	if reason == "ContainerCreating" || reason == "PodInitializing" {
		return levelProgress
	}
	return levelError
}

func containerText(name, text string) string {
	if text == "" {
		return ""
	}
	return name + ": " + text
}

func condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t })
	if i < 0 {
		return nil
	}
	return &p.Status.Conditions[i]
}

func byNamespaceName(a, b client.Object) int {
	return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}
