package dashboards

import (
	"cmp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeView is a card of the nodes section.
type nodeView struct {
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Level       level    `json:"level"`
	Message     string   `json:"message,omitempty"`
	Roles       []string `json:"roles"`
	Address     string   `json:"address,omitempty"`
	Version     string   `json:"version,omitempty"`
	Runtime     string   `json:"runtime,omitempty"`
	OS          string   `json:"os,omitempty"`
	Kernel      string   `json:"kernel,omitempty"`
	Created     int64    `json:"created"`
	CPU         float64  `json:"cpu"`    // allocatable cores
	Memory      float64  `json:"memory"` // allocatable bytes
	MaxPods     int64    `json:"maxPods"`
	Pods        int      `json:"pods"`
	CPUAsked    float64  `json:"cpuAsked"` // requests of the pods on it
	MemoryAsked float64  `json:"memoryAsked"`
}

const rolePrefix = "node-role.kubernetes.io/"

func viewNode(n *corev1.Node, pods []*corev1.Pod) nodeView {
	v := nodeView{
		Name: n.Name, Status: "NotReady", Level: levelError, Message: "the node has not reported yet", Roles: []string{},
		Version: n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion,
		OS: n.Status.NodeInfo.OSImage, Kernel: n.Status.NodeInfo.KernelVersion, Created: n.CreationTimestamp.UnixMilli(),
		CPU: n.Status.Allocatable.Cpu().AsApproximateFloat64(), Memory: n.Status.Allocatable.Memory().AsApproximateFloat64(),
		MaxPods: n.Status.Allocatable.Pods().Value(),
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			v.Address = a.Address
		}
	}
	for label := range n.Labels {
		if role, ok := strings.CutPrefix(label, rolePrefix); ok && role != "" {
			v.Roles = append(v.Roles, role)
		}
	}
	slices.Sort(v.Roles)
	var pressed []string
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue:
			v.Status, v.Level, v.Message = "Ready", levelOK, ""
		case c.Type == corev1.NodeReady:
			v.Message = c.Message
		case c.Status == corev1.ConditionTrue:
			pressed = append(pressed, string(c.Type)+": "+c.Message)
		}
	}
	if v.Level == levelOK && len(pressed) > 0 {
		v.Level, v.Message = levelWarn, strings.Join(pressed, "; ")
	}
	if n.Spec.Unschedulable {
		v.Status += ", cordoned"
		if v.Level == levelOK {
			v.Level = levelWarn
		}
	}
	for _, p := range pods {
		if p.Spec.NodeName != n.Name || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		r := podResources(&p.Spec)
		v.Pods++
		v.CPUAsked += r.CPURequest
		v.MemoryAsked += r.MemoryRequest
	}
	return v
}

// workloadView is a row of the deployments table.
type workloadView struct {
	Namespace string   `json:"ns"`
	Name      string   `json:"name"`
	Desired   int32    `json:"desired"`
	Ready     int32    `json:"ready"`
	Updated   int32    `json:"updated"`
	Level     level    `json:"level"`
	Status    string   `json:"status"`
	Message   string   `json:"message,omitempty"`
	Images    []string `json:"images"`
	Created   int64    `json:"created"`
}

func viewDeployment(d *appsv1.Deployment) workloadView {
	v := workloadView{
		Namespace: d.Namespace, Name: d.Name, Desired: 1, Ready: d.Status.ReadyReplicas, Updated: d.Status.UpdatedReplicas,
		Level: levelOK, Status: "Available", Images: []string{}, Created: d.CreationTimestamp.UnixMilli(),
	}
	if d.Spec.Replicas != nil {
		v.Desired = *d.Spec.Replicas
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		v.Images = append(v.Images, c.Image)
	}
	switch {
	case d.Spec.Paused:
		v.Level, v.Status = levelWarn, "Paused"
	case d.Status.ObservedGeneration < d.Generation || v.Updated < v.Desired || d.Status.Replicas > v.Updated:
		v.Level, v.Status = levelProgress, "Rolling out"
	case v.Ready < v.Desired:
		v.Level, v.Status = levelProgress, "Becoming ready"
	case v.Desired == 0:
		v.Level, v.Status = levelDone, "Scaled to zero"
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse ||
			c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			v.Level, v.Status, v.Message = levelError, c.Reason, c.Message
		}
	}
	return v
}

// resolver finds the deployment above a replica set.
func resolver(sets *table[*appsv1.ReplicaSet]) owners {
	return func(namespace string, refs []metav1.OwnerReference) string {
		ref := controllerOf(refs)
		if ref == nil {
			return ""
		}
		if ref.Kind == "ReplicaSet" {
			if rs, ok := sets.get(namespace, ref.Name); ok {
				if above := controllerOf(rs.OwnerReferences); above != nil {
					ref = above
				}
			}
		}
		return ref.Kind + "/" + ref.Name
	}
}

func controllerOf(refs []metav1.OwnerReference) *metav1.OwnerReference {
	for i := range refs {
		if refs[i].Controller != nil && *refs[i].Controller {
			return &refs[i]
		}
	}
	return nil
}

// eventView is a warning, or any event in a pod's detail.
type eventView struct {
	Namespace string `json:"ns"`
	Object    string `json:"object"` // Kind/name
	Type      string `json:"type"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
	Count     int32  `json:"count"`
	Last      int64  `json:"last"`
	Source    string `json:"source,omitempty"`
}

func viewEvent(e *corev1.Event) eventView {
	v := eventView{
		Namespace: e.InvolvedObject.Namespace, Object: e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name, Type: e.Type,
		Reason: e.Reason, Message: e.Message, Count: max(e.Count, 1), Last: lastSeen(e).UnixMilli(),
		Source: cmp.Or(e.ReportingController, e.Source.Component),
	}
	if e.Series != nil {
		v.Count = max(v.Count, e.Series.Count)
	}
	return v
}

// lastSeen is the time of an event of the old or the new style.
func lastSeen(e *corev1.Event) time.Time {
	last := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(last) {
			last = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(last) {
		last = e.Series.LastObservedTime.Time
	}
	return last
}

// maxEvents bounds the warnings shown.
const maxEvents = 60

func viewEvents(events []*corev1.Event, keep func(*corev1.Event) bool) []eventView {
	out := []eventView{}
	for _, e := range events {
		if keep(e) {
			out = append(out, viewEvent(e))
		}
	}
	slices.SortFunc(out, func(a, b eventView) int {
		return cmp.Or(cmp.Compare(b.Last, a.Last), strings.Compare(a.Object, b.Object), strings.Compare(a.Reason, b.Reason))
	})
	return out[:min(len(out), maxEvents)]
}
