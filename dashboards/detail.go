package dashboards

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/telemetry"
	"binnacle.io/tracing"
)

// podDetail is what a pod's drawer shows besides its row.
type podDetail struct {
	Namespace      string            `json:"ns"`
	Name           string            `json:"name"`
	Labels         map[string]string `json:"labels"`
	QOS            string            `json:"qos"`
	ServiceAccount string            `json:"serviceAccount"`
	Containers     []containerView   `json:"containers"`
	Conditions     []conditionView   `json:"conditions"`
	Events         []eventView       `json:"events"`
	// Trace is that of the request that last changed the pod's desired state.
	Trace string `json:"trace,omitempty"`
}

type containerView struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // container, init, sidecar
	Image    string `json:"image"`
	State    string `json:"state"`
	Level    level  `json:"level"`
	Message  string `json:"message,omitempty"`
	Since    int64  `json:"since,omitempty"`
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts"`
	// LastExit tells how it ended the last time, when it did.
	LastExit string   `json:"lastExit,omitempty"`
	Ports    []string `json:"ports"`
	resources
}

func viewPodDetail(p *corev1.Pod, events []*corev1.Event) podDetail {
	d := podDetail{
		Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, QOS: string(p.Status.QOSClass), ServiceAccount: p.Spec.ServiceAccountName,
		Containers: []containerView{}, Conditions: []conditionView{}, Trace: traceOf(p),
	}
	for i := range p.Spec.InitContainers {
		c, kind := &p.Spec.InitContainers[i], "init"
		if sidecar(c) {
			kind = "sidecar"
		}
		d.Containers = append(d.Containers, viewContainer(c, kind, p.Status.InitContainerStatuses))
	}
	for i := range p.Spec.Containers {
		d.Containers = append(d.Containers, viewContainer(&p.Spec.Containers[i], "container", p.Status.ContainerStatuses))
	}
	for _, c := range p.Status.Conditions {
		d.Conditions = append(d.Conditions, conditionView{string(c.Type), string(c.Status), c.Reason, c.Message, millis(c.LastTransitionTime)})
	}
	d.Events = viewEvents(events, func(e *corev1.Event) bool {
		return e.InvolvedObject.Kind == "Pod" && e.InvolvedObject.Name == p.Name && (e.InvolvedObject.UID == "" || e.InvolvedObject.UID == p.UID)
	})
	return d
}

// traceOf is the trace ID in a W3C traceparent: version-trace-span-flags.
func traceOf(o telemetry.Annotated) string {
	parent := o.GetAnnotations()[telemetry.TraceAnnotation]
	if len(parent) < 35 || parent[2] != '-' {
		return ""
	}
	id, err := tracing.ParseTraceID(parent[3:35])
	if err != nil {
		return ""
	}
	return id.String()
}

func viewContainer(c *corev1.Container, kind string, statuses []corev1.ContainerStatus) containerView {
	v := containerView{
		Name: c.Name, Kind: kind, Image: c.Image, State: "Not created", Level: levelProgress, Ports: []string{},
		resources: resources{
			CPURequest: c.Resources.Requests.Cpu().AsApproximateFloat64(), CPULimit: c.Resources.Limits.Cpu().AsApproximateFloat64(),
			MemoryRequest: c.Resources.Requests.Memory().AsApproximateFloat64(), MemoryLimit: c.Resources.Limits.Memory().AsApproximateFloat64(),
		},
	}
	for _, p := range c.Ports {
		text := fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, corev1.ProtocolTCP))
		if p.Name != "" {
			text = p.Name + " " + text
		}
		v.Ports = append(v.Ports, text)
	}
	for i := range statuses {
		s := &statuses[i]
		if s.Name != c.Name {
			continue
		}
		v.Ready, v.Restarts = s.Ready, s.RestartCount
		switch state := s.State; {
		case state.Running != nil:
			v.State, v.Level, v.Since = "Running", levelOK, millis(state.Running.StartedAt)
			if !s.Ready && kind != "init" {
				v.Level, v.Message = levelWarn, "not ready"
			}
		case state.Waiting != nil:
			v.State, v.Level, v.Message = cmp.Or(state.Waiting.Reason, "Waiting"), waitingLevel(state.Waiting.Reason), state.Waiting.Message
		case state.Terminated != nil:
			v.State, v.Level, v.Message, v.Since = exitText(state.Terminated), levelDone, state.Terminated.Message, millis(state.Terminated.FinishedAt)
			if state.Terminated.ExitCode != 0 {
				v.Level = levelError
			}
		}
		if t := s.LastTerminationState.Terminated; t != nil {
			v.LastExit = exitText(t)
		}
	}
	return v
}

func exitText(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("%s (exit code %d)", cmp.Or(t.Reason, "Ended"), t.ExitCode)
	if t.Signal != 0 {
		text = fmt.Sprintf("%s (signal %d)", cmp.Or(t.Reason, "Ended"), t.Signal)
	}
	return text
}

// millis is 0 for no time.
func millis(t metav1.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
