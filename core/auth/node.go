package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"binnacle.io/core/client"
)

const nodePrefix = "system:node:"

// NodeOf returns the node whose agent u is.
func NodeOf(u *User) (name string, ok bool) {
	if u == nil || !u.InGroup(GroupNodes) {
		return "", false
	}
	name, ok = strings.CutPrefix(u.Name, nodePrefix)
	return name, ok && name != ""
}

// NodeRules are what a node agent may ever do. The Node authorizer narrows
// some of them to objects that pods on the node refer to.
func NodeRules() []rbacv1.PolicyRule {
	rule := func(group, resources, verbs string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: strings.Fields(resources), Verbs: strings.Fields(verbs)}
	}
	return []rbacv1.PolicyRule{
		rule("authentication.k8s.io", "tokenreviews", "create"),
		rule("authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews", "create"),
		rule("", "services", "get list watch"),
		rule("", "nodes", "create get list watch"),
		rule("", "nodes/status", "patch update"),
		rule("", "nodes", "patch update"),
		rule("", "events", "create patch update"),
		rule("events.k8s.io", "events", "create patch update"),
		rule("", "pods", "get list watch"),
		rule("", "pods", "create delete"),
		rule("", "pods/status", "patch update"),
		rule("", "pods/eviction", "create"),
		rule("", "configmaps secrets", "get list watch"),
		rule("", "persistentvolumeclaims persistentvolumes", "get"),
		rule("", "endpoints", "get"),
		rule("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
		rule("coordination.k8s.io", "leases", "create delete get patch update"),
		rule("storage.k8s.io", "volumeattachments", "get"),
		rule("", "serviceaccounts/token", "create"),
		rule("", "serviceaccounts", "get"),
		rule("", "persistentvolumeclaims/status", "get patch update"),
		rule("storage.k8s.io", "csidrivers", "get list watch"),
		rule("storage.k8s.io", "csinodes", "create delete get patch update"),
		rule("node.k8s.io", "runtimeclasses", "get list watch"),
		rule("resource.k8s.io", "resourceclaims", "get"),
		rule("resource.k8s.io", "resourceslices", "deletecollection get list watch create update patch delete"),
		rule("certificates.k8s.io", "clustertrustbundles", "get list watch"),
	}
}

// Node authorizes node agents: what NodeRules say, but of Secrets, ConfigMaps,
// claims, volumes and accounts only those that pods on the node refer to, and
// of leases and CSINodes only the node's own.
type Node struct {
	rules  []rbacv1.PolicyRule
	reader atomic.Pointer[client.Client]
}

// NewNode returns the Node authorizer. It has no opinion before Use.
func NewNode() *Node { return &Node{rules: NodeRules()} }

// Use gives the authorizer the client through which it reads pods and volumes.
func (n *Node) Use(c client.Client) { n.reader.Store(&c) }

// Authorize implements Authorizer. It never denies.
func (n *Node) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	node, ok := NodeOf(a.User)
	if !ok || a.Path != "" {
		return NoOpinion, "", nil
	}
	if !slices.ContainsFunc(n.rules, func(r rbacv1.PolicyRule) bool { return Allows(a, &r) }) {
		return NoOpinion, "", nil
	}
	p := n.reader.Load()
	if p == nil {
		return NoOpinion, "node authorizer: the API server is still starting", nil
	}
	ok, reason, err := related(ctx, *p, node, a)
	if err != nil || !ok {
		return NoOpinion, reason, err
	}
	return Allow, "", nil
}

// related narrows the rules. reason says why not.
func related(ctx context.Context, c client.Client, node string, a Attributes) (bool, string, error) {
	unrelated := fmt.Sprintf("no relationship found between node '%s' and this object", node)
	switch a.Group + "/" + a.resource() {
	case "/secrets", "/configmaps", "/persistentvolumeclaims", "/persistentvolumeclaims/status", "/serviceaccounts", "/serviceaccounts/token":
		if a.Name == "" || a.Namespace == "" {
			return false, "can only read a namespaced object of this type by name", nil
		}
		pods, err := podsOn(ctx, c, node, a.Namespace)
		if err != nil {
			return false, "", err
		}
		for _, pod := range pods {
			if refersTo(pod, a.Resource, a.Name) {
				return true, "", nil
			}
		}
		if a.Resource == "secrets" {
			ok, err := volumeSecret(ctx, c, node, a.Namespace, a.Name)
			return ok, unrelated, err
		}
		return false, unrelated, nil
	case "/persistentvolumes":
		pv, err := client.GetCached[*corev1.PersistentVolume](ctx, c, "", a.Name)
		if apierrors.IsNotFound(err) {
			return false, unrelated, nil
		}
		if err != nil {
			return false, "", err
		}
		ok, err := mounted(ctx, c, node, pv)
		return ok, unrelated, err
	case "coordination.k8s.io/leases":
		ok := a.Namespace == corev1.NamespaceNodeLease && (a.Name == node || a.Verb == "create" && a.Name == "")
		return ok, "can only access node lease with the same name as the requesting node", nil
	case "storage.k8s.io/csinodes":
		return a.Name == node || a.Verb == "create" && a.Name == "", "can only access CSINode with the same name as the requesting node", nil
	}
	return true, "", nil
}

func podsOn(ctx context.Context, c client.Client, node, namespace string) ([]*corev1.Pod, error) {
	pods, _, err := client.ListOf[*corev1.Pod](ctx, c, client.ReadOptions{
		Namespace: namespace, Fields: fields.OneTermEqualSelector("spec.nodeName", node), FromCache: true})
	return pods, err
}

// mounted reports whether a pod on the node uses the claim pv is bound to.
func mounted(ctx context.Context, c client.Client, node string, pv *corev1.PersistentVolume) (bool, error) {
	if pv.Spec.ClaimRef == nil {
		return false, nil
	}
	pods, err := podsOn(ctx, c, node, pv.Spec.ClaimRef.Namespace)
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
		return refersTo(p, "persistentvolumeclaims", pv.Spec.ClaimRef.Name)
	}), err
}

// volumeSecret reports whether a volume mounted on the node needs the secret.
func volumeSecret(ctx context.Context, c client.Client, node, namespace, name string) (bool, error) {
	volumes, _, err := client.ListOf[*corev1.PersistentVolume](ctx, c, client.ReadOptions{FromCache: true})
	if err != nil {
		return false, err
	}
	for _, pv := range volumes {
		csi := pv.Spec.CSI
		if csi == nil {
			continue
		}
		for _, ref := range []*corev1.SecretReference{csi.NodePublishSecretRef, csi.NodeStageSecretRef, csi.NodeExpandSecretRef} {
			if ref == nil || ref.Namespace != namespace || ref.Name != name {
				continue
			}
			if ok, err := mounted(ctx, c, node, pv); ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
}
