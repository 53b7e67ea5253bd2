package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// NodeRestriction limits what node agents change to their own Node, Lease,
// CSINode, ResourceSlices and certificates, and to the pods on them.
type NodeRestriction struct {
	c     client.Client
	authz auth.Authorizer
}

// NewNodeRestriction returns the plugin. authz is the authorizer of requests:
// it may allow a node tokens for other audiences than its pods name. Nil allows
// none.
func NewNodeRestriction(c client.Client, authz auth.Authorizer) *NodeRestriction {
	return &NodeRestriction{c, authz}
}

func (*NodeRestriction) Name() string { return "NodeRestriction" }

func (*NodeRestriction) Handles(op Operation, r client.Resource, sub string) bool {
	switch r {
	case podResource, nodeResource, pvcResource, leaseResource, csiNodeResource, podCertResource:
		return op != Connect
	case sliceResource:
		return op == Create || op == Delete
	case csrResource:
		return op == Create && sub == ""
	case accountResource:
		return op == Create && sub == "token"
	}
	return false
}

func (p *NodeRestriction) Admit(ctx context.Context, a *Attributes) error {
	node, ok := auth.NodeOf(a.User)
	deny := func(format string, args ...any) error { return refuse(a, fmt.Errorf(format, args...)) }
	if !ok {
		if a.User != nil && a.User.InGroup(auth.GroupNodes) && a.User.Name == "system:node:" {
			return deny("could not determine node from user %q", a.User.Name)
		}
		return nil
	}
	switch a.Resource {
	case podResource:
		return p.pod(ctx, a, node, deny)
	case nodeResource:
		return p.node(a, node, deny)
	case pvcResource:
		return claimStatus(a, node, deny)
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
	case sliceResource:
		return ownSlice(a, node, deny)
	case csrResource:
		return ownCertificate(a, node, deny)
	case podCertResource:
		return p.podCertificate(ctx, a, node, deny)
	case accountResource:
		return p.token(ctx, a, node, deny)
	}
	return nil
}

type denial func(format string, args ...any) error

func (p *NodeRestriction) pod(ctx context.Context, a *Attributes, node string, deny denial) error {
	switch a.Subresource {
	case "":
		switch a.Op {
		case Create:
			return p.mirrorOnly(ctx, a, node, deny)
		case Delete:
			if pod, ok := a.Old.(*corev1.Pod); !ok || pod.Spec.NodeName != node {
				return deny("node %q can only delete pods with spec.nodeName set to itself", node)
			}
			return nil
		}
		return deny("unexpected operation %q, node %q can only create and delete mirror pods", a.Op, node)
	case "status":
		return podStatus(a, node, deny)
	case "eviction":
		return p.eviction(ctx, a, node, deny)
	}
	return deny("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
}

func podStatus(a *Attributes, node string, deny denial) error {
	if a.Op != Update {
		return deny("unexpected operation %q", a.Op)
	}
	pod, ok := a.Object.(*corev1.Pod)
	old, ok2 := a.Old.(*corev1.Pod)
	switch {
	case !ok2:
		return deny("unexpected type %T", a.Old)
	case old.Spec.NodeName != node:
		return deny("node %q can only update pod status for pods with spec.nodeName set to itself", node)
	case !ok:
		return deny("unexpected type %T", a.Object)
	case !maps.Equal(pod.Labels, old.Labels):
		return deny("node %q cannot update labels through pod status", node)
	case !equality.Semantic.DeepEqual(pod.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses):
		return deny("node %q cannot update resource claim statues", node)
	case !equality.Semantic.DeepEqual(pod.Status.ExtendedResourceClaimStatus, old.Status.ExtendedResourceClaimStatus):
		return deny("node %q cannot update extended resource claim status", node)
	}
	return nil
}

func (p *NodeRestriction) eviction(ctx context.Context, a *Attributes, node string, deny denial) error {
	if a.Op != Create {
		return deny("unexpected operation %s", a.Op)
	}
	name := a.Key.Name
	if name == "" && a.Object != nil {
		name = a.Object.GetName()
	}
	if name == "" {
		return deny("could not determine pod from request data")
	}
	pod, err := client.GetCached[*corev1.Pod](ctx, p.c, a.Key.Namespace, name)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return deny("%w", err)
	}
	if pod.Spec.NodeName != node {
		return deny("node %s can only evict pods with spec.nodeName set to itself", node)
	}
	return nil
}

// mirrorOnly lets nodes make the pods that stand for their static ones.
func (p *NodeRestriction) mirrorOnly(ctx context.Context, a *Attributes, node string, deny denial) error {
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
	case len(pod.OwnerReferences) == 0:
		return deny("node %q can only create pods with an owner reference set to itself", node)
	}
	owner := pod.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return deny("node %q can only create pods with an owner reference set to itself", node)
	case owner.Controller == nil || !*owner.Controller:
		return deny("node %q can only create pods with a controller owner reference set to itself", node)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return deny("node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	stored, err := client.GetCached[*corev1.Node](ctx, p.c, "", node)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return deny("error looking up node %s to verify uid: %w", node, err)
	}
	if owner.UID != stored.UID {
		return deny("node %s UID mismatch: expected %s got %s", node, owner.UID, stored.UID)
	}
	if what := auth.RefersTo(pod); what != "" {
		return deny("node %q can not create pods that reference %s", node, what)
	}
	return nil
}

// claimStatus lets nodes report what they did to a claim's volume.
func claimStatus(a *Attributes, node string, deny denial) error {
	if a.Subresource != "status" {
		return deny("may only update PVC status")
	}
	if a.Op != Update {
		return deny("unexpected operation %q", a.Op)
	}
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, ok2 := a.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !ok2 {
		return deny("unexpected type %T", a.Object)
	}
	// Everything else must be as it was.
	rest := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c = c.DeepCopy()
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil, nil, nil
		return c
	}
	if !equality.Semantic.DeepEqual(rest(claim), rest(old)) {
		return deny("node %q is not allowed to update fields other than status.quantity and status.conditions", node)
	}
	return nil
}

func ownSlice(a *Attributes, node string, deny denial) error {
	o, verb := a.Object, "create"
	if a.Op == Delete {
		o, verb = a.Old, "delete"
	}
	slice, ok := o.(*resourcev1.ResourceSlice)
	if !ok {
		return deny("unexpected type %T", o)
	}
	if slice.Spec.NodeName == nil || *slice.Spec.NodeName != node {
		return deny("can only %s ResourceSlice with the same NodeName as the requesting node", verb)
	}
	return nil
}

// ownCertificate lets nodes ask for certificates of kubelets in their own name
// only.
func ownCertificate(a *Attributes, node string, deny denial) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return deny("unexpected type %T", a.Object)
	}
	if s := csr.Spec.SignerName; s != certificatesv1.KubeletServingSignerName && s != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	req, err := parseRequest(csr.Spec.Request)
	if err != nil {
		return deny("unable to parse csr: %w", err)
	}
	if name := "system:node:" + node; req.Subject.CommonName != name {
		return deny("can only create a node CSR with CN=%s", name)
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
		return nil
	case Create:
		o, ok := a.Object.(*corev1.Node)
		if !ok {
			return deny("unexpected type %T", a.Object)
		}
		// What a node's configuration refers to, the node may read.
		if o.Spec.ConfigSource != nil {
			return deny("node %q is not allowed to create pods with a non-nil configSource", node)
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
	if o.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(o.Spec.ConfigSource, old.Spec.ConfigSource) {
		return deny("node %q is not allowed to update configSource to a new non-nil configSource", node)
	}
	if !equality.Semantic.DeepEqual(o.Spec.Taints, old.Spec.Taints) {
		return deny("node %q is not allowed to modify taints", node)
	}
	if !equality.Semantic.DeepEqual(o.OwnerReferences, old.OwnerReferences) {
		return deny("node %q is not allowed to modify ownerReferences", node)
	}
	if bad := forbiddenLabels(o.Labels, old.Labels); len(bad) > 0 {
		return deny("is not allowed to modify labels: %s", strings.Join(bad, ", "))
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
		return true // the instance type among them
	case domain == "kubernetes.io":
		return name == "hostname" || name == "os" || name == "arch"
	case domain == "beta.kubernetes.io":
		return name == "os" || name == "arch" || name == "instance-type"
	case domain == "topology.kubernetes.io", domain == "failure-domain.beta.kubernetes.io":
		return name == "zone" || name == "region"
	}
	return !under("kubernetes.io") && !under("k8s.io")
}
