package podspec

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// QOS returns the pod's quality-of-service class.
func QOS(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	any, all := false, true
	each(pod, func(c *corev1.Container) {
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			req, hasReq := c.Resources.Requests[r]
			lim, hasLim := c.Resources.Limits[r]
			any = any || hasReq && !req.IsZero() || hasLim && !lim.IsZero()
			if !hasLim || lim.IsZero() || hasReq && req.Cmp(lim) != 0 {
				all = false
			}
		}
	})
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case all:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func each(pod *corev1.Pod, f func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		f(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		f(&pod.Spec.Containers[i])
	}
}

// CgroupParent returns the pod's cgroup below root ("/kubepods").
func CgroupParent(root string, pod *corev1.Pod) string {
	return path.Join(QOSCgroup(root, QOS(pod)), "pod"+string(pod.UID))
}

// QOSCgroup returns the cgroup that holds all pods of a class.
func QOSCgroup(root string, class corev1.PodQOSClass) string {
	switch class {
	case corev1.PodQOSBurstable:
		return path.Join(root, "burstable")
	case corev1.PodQOSBestEffort:
		return path.Join(root, "besteffort")
	}
	return root
}

// Resources are the kernel's units of a request and limit. Zero Quota and
// Memory are no limit.
type Resources struct {
	Shares int64 // cpu.shares
	Quota  int64 // µs per Period
	Period int64 // µs
	Memory int64 // bytes
}

// The kernel's bounds and upstream's period.
const (
	minShares = 2
	period    = 100_000
	minQuota  = 1_000
)

func kernel(cpuRequest, cpuLimit, memoryLimit *resource.Quantity) Resources {
	r := Resources{Shares: minShares, Period: period}
	if cpuRequest != nil && !cpuRequest.IsZero() {
		r.Shares = min(max(cpuRequest.MilliValue()*1024/1000, minShares), 262144)
	}
	if cpuLimit != nil && !cpuLimit.IsZero() {
		r.Quota = max(cpuLimit.MilliValue()*period/1000, minQuota)
	}
	if memoryLimit != nil {
		r.Memory = memoryLimit.Value()
	}
	return r
}

func quantity(l corev1.ResourceList, n corev1.ResourceName) *resource.Quantity {
	if q, ok := l[n]; ok {
		return &q
	}
	return nil
}

// ContainerResources returns a container's share of the machine.
func ContainerResources(c *corev1.Container) Resources {
	req := quantity(c.Resources.Requests, corev1.ResourceCPU)
	if req == nil {
		req = quantity(c.Resources.Limits, corev1.ResourceCPU)
	}
	return kernel(req, quantity(c.Resources.Limits, corev1.ResourceCPU), quantity(c.Resources.Limits, corev1.ResourceMemory))
}

// Requests sums what the pod asks for: the greater of its running containers
// and of what any init container needs, plus overhead.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	return total(pod, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests }, podRequests(pod))
}

func podRequests(pod *corev1.Pod) corev1.ResourceList {
	if pod.Spec.Resources != nil {
		return pod.Spec.Resources.Requests
	}
	return nil
}

func total(pod *corev1.Pod, of func(*corev1.Container) corev1.ResourceList, override corev1.ResourceList) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for i := range pod.Spec.Containers {
		addTo(sum, of(&pod.Spec.Containers[i]))
	}
	peak := corev1.ResourceList{}
	sidecars := corev1.ResourceList{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			addTo(sum, of(c))
			addTo(sidecars, of(c))
			maxTo(peak, sidecars)
			continue
		}
		need := sidecars.DeepCopy()
		addTo(need, of(c))
		maxTo(peak, need)
	}
	maxTo(sum, peak)
	for n, q := range override {
		sum[n] = q
	}
	addTo(sum, pod.Spec.Overhead)
	return sum
}

func addTo(sum, more corev1.ResourceList) {
	for n, q := range more {
		s := sum[n]
		s.Add(q)
		sum[n] = s
	}
}

func maxTo(sum, other corev1.ResourceList) {
	for n, q := range other {
		if s, ok := sum[n]; !ok || s.Cmp(q) < 0 {
			sum[n] = q
		}
	}
}

// PodResources returns the limits of the pod's cgroup. A limit holds only if
// every container has one.
func PodResources(pod *corev1.Pod) Resources {
	req := Requests(pod)
	var podLimits corev1.ResourceList
	if pod.Spec.Resources != nil {
		podLimits = pod.Spec.Resources.Limits
	}
	lim := total(pod, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits }, podLimits)
	each(pod, func(c *corev1.Container) {
		for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, ok := c.Resources.Limits[n]; !ok || q.IsZero() {
				if _, whole := podLimits[n]; !whole {
					delete(lim, n)
				}
			}
		}
	})
	return kernel(quantity(req, corev1.ResourceCPU), quantity(lim, corev1.ResourceCPU), quantity(lim, corev1.ResourceMemory))
}

// systemCritical is the priority from which a pod counts as part of the node.
const systemCritical = 2_000_000_000

// OOMScoreAdjust tells the kernel's OOM killer which container to prefer: those
// of best-effort pods first, then those that asked for least memory.
func OOMScoreAdjust(pod *corev1.Pod, c *corev1.Container, memoryCapacity int64) int64 {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical {
		return -997
	}
	switch QOS(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	req := c.Resources.Requests.Memory().Value()
	if memoryCapacity <= 0 {
		return 999
	}
	adj := 1000 - 1000*req/memoryCapacity
	return min(max(adj, 3), 999)
}

// LogDirName is the directory name of a pod's logs.
func LogDirName(namespace, name string, uid types.UID) string {
	return namespace + "_" + name + "_" + string(uid)
}
