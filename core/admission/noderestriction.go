package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// NodeRestriction limits what node agents change to their own Node, Lease and
// CSINode and to the pods on them.
type NodeRestriction struct{ c client.Client }

// NewNodeRestriction returns the plugin.
func NewNodeRestriction(c client.Client) *NodeRestriction { return &NodeRestriction{c} }

func (*NodeRestriction) Name() string { return "NodeRestriction" }

func (*NodeRestriction) Handles(op Operation, r client.Resource, sub string) bool {
	switch r {
	case podResource, nodeResource, pvcResource, leaseResource, csiNodeResource:
		return op != Connect
	case accountResource:
		return sub == "token" && op == Create
	}
	return false
}

func (p *NodeRestriction) Admit(ctx context.Context, a *Attributes) error {
	node, ok := auth.NodeOf(a.User)
	if !ok {
		return nil
	}
	deny := func(format string, args ...any) error { return refuse(a, fmt.Errorf(format, args...)) }
	switch a.Resource {
	case podResource:
		return p.pod(ctx, a, node, deny)
	case nodeResource:
		return p.node(a, node, deny)
	case pvcResource:
		if a.Subresource != "status" || a.Op != Update {
			return deny("unexpected operation %q on %q, node %q may only update the status of claims", a.Op, a.Resource, node)
		}
	case leaseResource:
		if a.Key.Namespace != corev1.NamespaceNodeLease {
			return deny("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
		}
		if lease, ok := a.Object.(*coordinationv1.Lease); ok && lease.Name != node || a.Op != Create && a.Key.Name != node {
			return deny("can only access node lease with the same name as the requesting node")
		}
	case csiNodeResource:
		if o, ok := a.Object.(*storagev1.CSINode); ok && o.Name != node || a.Op != Create && a.Key.Name != node {
			return deny("can only access CSINode with the same name as the requesting node")
		}
	case accountResource:
		return p.token(ctx, a, node, deny)
	}
	return nil
}

type denial func(format string, args ...any) error

func (p *NodeRestriction) pod(ctx context.Context, a *Attributes, node string, deny denial) error {
	switch {
	case a.Subresource == "" && a.Op == Create:
		return mirrorOnly(a, node, deny)
	case a.Subresource == "" && a.Op == Delete:
		if pod, ok := a.Old.(*corev1.Pod); ok && pod.Spec.NodeName != node {
			return deny("node %q can only delete pods with spec.nodeName set to itself", node)
		}
		return nil
	case a.Subresource == "status" && a.Op == Update:
		pod, old, ok := podPair(a)
		if !ok || old.Spec.NodeName != node {
			return deny("node %q can only update pod status for pods with spec.nodeName set to itself", node)
		}
		if !maps.Equal(pod.Labels, old.Labels) {
			return deny("node %q cannot update labels through pod status", node)
		}
		return nil
	case a.Subresource == "eviction" && a.Op == Create:
		name := a.Key.Name
		if name == "" && a.Object != nil {
			name = a.Object.GetName()
		}
		pod, err := client.GetCached[*corev1.Pod](ctx, p.c, a.Key.Namespace, name)
		if err != nil {
			return err
		}
		if pod.Spec.NodeName != node {
			return deny("node %s can only evict pods with spec.nodeName set to itself", node)
		}
		return nil
	}
	return deny("unexpected operation %q on pods subresource %q, node cannot perform this operation", a.Op, a.Subresource)
}

func podPair(a *Attributes) (pod, old *corev1.Pod, ok bool) {
	pod, ok = a.Object.(*corev1.Pod)
	if !ok {
		return nil, nil, false
	}
	old, ok = a.Old.(*corev1.Pod)
	return pod, old, ok
}

// mirrorOnly lets nodes make the pods that stand for their static ones.
func mirrorOnly(a *Attributes, node string, deny denial) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return deny("unexpected type %T", a.Object)
	}
	switch {
	case !mirror(pod):
		return deny("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	case pod.Spec.NodeName != node:
		return deny("node %q can only create pods with spec.nodeName set to itself", node)
	case len(pod.OwnerReferences) > 1:
		return deny("node %q can only create pods with a single owner reference set to itself", node)
	case pod.Spec.ServiceAccountName != "":
		return deny("node %q can not create pods that reference a service account", node)
	}
	for _, o := range pod.OwnerReferences {
		if o.APIVersion != "v1" || o.Kind != "Node" || o.Name != node || o.Controller == nil || !*o.Controller {
			return deny("node %q can only create pods with an owner reference set to itself, as its controller", node)
		}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.Secret != nil, v.ConfigMap != nil, v.PersistentVolumeClaim != nil, v.Projected != nil:
			return deny("node %q can not create pods that reference objects of the API (volume %q)", node, v.Name)
		}
	}
	return nil
}

func (p *NodeRestriction) node(a *Attributes, node string, deny denial) error {
	name := a.Key.Name
	if a.Op == Create && a.Object != nil {
		name = a.Object.GetName()
	}
	if name != node {
		return deny("node %q is not allowed to modify node %q", node, name)
	}
	switch a.Op {
	case Delete:
		return deny("node %q is not allowed to delete itself", node)
	case Create:
		o, ok := a.Object.(*corev1.Node)
		if !ok {
			return deny("unexpected type %T", a.Object)
		}
		if bad := forbiddenLabels(o.Labels, nil); len(bad) > 0 {
			return deny("node %q is not allowed to set the following labels: %s", node, strings.Join(bad, ", "))
		}
		return nil
	}
	o, ok := a.Object.(*corev1.Node)
	old, ok2 := a.Old.(*corev1.Node)
	if !ok || !ok2 {
		return deny("unexpected type %T", a.Object)
	}
	if !equality.Semantic.DeepEqual(o.Spec.Taints, old.Spec.Taints) {
		return deny("node %q is not allowed to modify taints", node)
	}
	if !equality.Semantic.DeepEqual(o.OwnerReferences, old.OwnerReferences) {
		return deny("node %q is not allowed to modify ownerReferences", node)
	}
	if bad := forbiddenLabels(o.Labels, old.Labels); len(bad) > 0 {
		return deny("node %q is not allowed to modify labels: %s", node, strings.Join(bad, ", "))
	}
	return nil
}

// forbiddenLabels returns the labels that differ and that are for
// administrators (node-restriction.kubernetes.io) or reserved.
func forbiddenLabels(now, before map[string]string) []string {
	var bad []string
	judge := func(key string) {
		if v, ok := now[key]; ok {
			if had, ok := before[key]; ok && had == v {
				return
			}
		}
		if !nodeMaySet(key) && !slices.Contains(bad, key) {
			bad = append(bad, key)
		}
	}
	for key := range now {
		judge(key)
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			judge(key)
		}
	}
	slices.Sort(bad)
	return bad
}

// nodeMaySet follows KEP-279: of the reserved domains only the labels that
// agents report.
func nodeMaySet(key string) bool {
	domain, name, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	under := func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) }
	switch {
	case under("node-restriction.kubernetes.io"):
		return false
	case under("kubelet.kubernetes.io"), under("node.kubernetes.io"):
		return true
	case domain == "kubernetes.io":
		return name == "hostname" || name == "os" || name == "arch"
	case domain == "beta.kubernetes.io":
		return name == "os" || name == "arch" || name == "instance-type"
	case domain == "topology.kubernetes.io", domain == "failure-domain.beta.kubernetes.io":
		return name == "zone" || name == "region"
	}
	return !under("kubernetes.io") && !under("k8s.io")
}

// token lets nodes ask for tokens of the accounts of pods on them, bound to
// these pods.
func (p *NodeRestriction) token(ctx context.Context, a *Attributes, node string, deny denial) error {
	// A TokenRequest has metadata, so it travels as an object.
	req, ok := any(a.Object).(*authenticationv1.TokenRequest)
	if !ok {
		return deny("unexpected type %T", a.Object)
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return deny("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return deny("node requested token with a pod binding without a uid")
	}
	pod, err := client.GetCached[*corev1.Pod](ctx, p.c, a.Key.Namespace, ref.Name)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return deny("cannot look up pod %s: %v", ref.Name, err)
	}
	if ref.UID != pod.UID {
		return deny("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != node {
		return deny("node requested token bound to a pod scheduled on a different node")
	}
	return nil
}
