package scheduler

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Requests that scoring assumes for containers that state none, upstream's.
var assumedRequests = corev1.ResourceList{
	corev1.ResourceCPU:    resource.MustParse("100m"),
	corev1.ResourceMemory: resource.MustParse("200Mi"),
}

// Amounts are resources by name: CPU in thousandths of a core, others in their
// base unit.
type Amounts map[corev1.ResourceName]int64

func amountsOf(list corev1.ResourceList) Amounts {
	a := make(Amounts, len(list))
	for name, q := range list {
		if name == corev1.ResourceCPU {
			a[name] = q.MilliValue()
		} else {
			a[name] = q.Value()
		}
	}
	return a
}

func (a Amounts) add(b Amounts, sign int64) {
	for name, v := range b {
		a[name] += sign * v
	}
}

// hostPort is a port taken on a node.
type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

// podInfo is a pod with what decisions need of it, computed once.
type podInfo struct {
	*corev1.Pod
	requests Amounts // what filters compare
	assumed  Amounts // with assumedRequests, what scores compare
	ports    []hostPort
}

func infoOf(p *corev1.Pod) *podInfo {
	info := &podInfo{
		Pod:      p,
		requests: amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true})),
		assumed:  amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true, NonMissingContainerRequests: assumedRequests})),
	}
	for _, cs := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range cs {
			for _, cp := range c.Ports {
				if cp.HostPort > 0 {
					info.ports = append(info.ports, hostPort{cmp.Or(cp.HostIP, "0.0.0.0"), cmp.Or(cp.Protocol, corev1.ProtocolTCP), cp.HostPort})
				}
			}
		}
	}
	return info
}

// Node is a node with the pods that count on it.
type Node struct {
	*corev1.Node
	pods     map[types.UID]*podInfo
	requests Amounts
	assumed  Amounts
	capacity Amounts // allocatable
	images   map[string]int64
}

// Picture is what the scheduler knows of the cluster. It belongs to one
// goroutine.
type Picture struct {
	nodes map[string]*Node
	list  []*Node // nodes that exist, ordered by name
	// homeless are pods on nodes that are not known (yet).
	where      map[types.UID]string // node of each counted pod
	namespaces map[string]map[string]string
}

// NewPicture returns an empty picture.
func NewPicture() *Picture {
	return &Picture{nodes: map[string]*Node{}, where: map[types.UID]string{}, namespaces: map[string]map[string]string{}}
}

func (c *Picture) node(name string) *Node {
	n := c.nodes[name]
	if n == nil {
		n = &Node{pods: map[types.UID]*podInfo{}, requests: Amounts{}, assumed: Amounts{}}
		c.nodes[name] = n
	}
	return n
}

// SetNode takes in a node's state.
func (c *Picture) SetNode(obj *corev1.Node) {
	n := c.node(obj.Name)
	fresh := n.Node == nil
	n.Node = obj
	n.capacity = amountsOf(obj.Status.Allocatable)
	n.images = map[string]int64{}
	for _, img := range obj.Status.Images {
		for _, name := range img.Names {
			n.images[name] = img.SizeBytes
		}
	}
	if fresh {
		i, _ := slices.BinarySearchFunc(c.list, obj.Name, func(n *Node, name string) int { return cmp.Compare(n.Name, name) })
		c.list = slices.Insert(c.list, i, n)
	}
}

// RemoveNode forgets a node; pods still on it keep counting until they go.
func (c *Picture) RemoveNode(name string) {
	n := c.nodes[name]
	if n == nil || n.Node == nil {
		return
	}
	c.list = slices.DeleteFunc(c.list, func(o *Node) bool { return o == n })
	n.Node = nil
	if len(n.pods) == 0 {
		delete(c.nodes, name)
	}
}

// SetPod counts a pod on its node, or stops counting it when it is finished.
func (c *Picture) SetPod(p *corev1.Pod) {
	c.RemovePod(p.UID)
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	n, info := c.node(p.Spec.NodeName), infoOf(p)
	n.pods[p.UID] = info
	n.requests.add(info.requests, 1)
	n.assumed.add(info.assumed, 1)
	c.where[p.UID] = p.Spec.NodeName
}

// RemovePod stops counting a pod.
func (c *Picture) RemovePod(uid types.UID) {
	name, ok := c.where[uid]
	if !ok {
		return
	}
	n := c.nodes[name]
	info := n.pods[uid]
	delete(n.pods, uid)
	delete(c.where, uid)
	n.requests.add(info.requests, -1)
	n.assumed.add(info.assumed, -1)
	if n.Node == nil && len(n.pods) == 0 {
		delete(c.nodes, name)
	}
}

// SetNamespace takes in a namespace's labels, for affinity terms that select
// namespaces; nil labels forget it.
func (c *Picture) SetNamespace(name string, labels map[string]string) {
	if labels == nil {
		delete(c.namespaces, name)
		return
	}
	c.namespaces[name] = labels
}

// Assigned returns the node a pod counts on.
func (c *Picture) Assigned(uid types.UID) (string, bool) {
	n, ok := c.where[uid]
	return n, ok
}
