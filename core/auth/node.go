package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

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
		rule("resource.k8s.io", "resourceslices", "deletecollection"),
		rule("certificates.k8s.io", "clustertrustbundles", "get list watch"),
		rule("certificates.k8s.io", "podcertificaterequests", "create get list watch"),
	}
}

// Node authorizes node agents. Of Secrets, ConfigMaps, claims, volumes,
// attachments and accounts they may have those that pods on the node refer to,
// of Nodes, Pods, Leases, CSINodes, ResourceSlices and PodCertificateRequests
// the node's own, as far as a request shows whose they are: admission
// (NodeRestriction) looks at what is written. All else is as NodeRules say.
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
	if !ok {
		return NoOpinion, "", nil
	}
	p := n.reader.Load()
	if p == nil {
		return NoOpinion, "node authorizer: the API server is still starting", nil
	}
	may := nodeQuestion{ctx, *p, node, a}.judge()
	if may == nil {
		if slices.ContainsFunc(n.rules, func(r rbacv1.PolicyRule) bool { return Allows(a, &r) }) {
			return Allow, "", nil
		}
		return NoOpinion, "", nil
	}
	ok, reason, err := may()
	if err != nil || !ok {
		return NoOpinion, reason, err
	}
	return Allow, "", nil
}

// Rules says that a node's rules cannot be listed.
func (n *Node) Rules(u *User, _ string) ([]rbacv1.PolicyRule, error) {
	if _, ok := NodeOf(u); ok {
		return nil, errors.New("node authorizer does not support user rule resolution")
	}
	return nil, nil
}

// nodeQuestion is one request of a node's agent.
type nodeQuestion struct {
	ctx  context.Context
	c    client.Client
	node string
	a    Attributes
}

// judge returns what decides the request, or nil when NodeRules do. A decision
// is whether it is allowed, and if not why, in upstream's words.
func (q nodeQuestion) judge() func() (bool, string, error) {
	if q.a.Path != "" {
		return nil
	}
	switch q.a.Group + "/" + q.a.Resource {
	case "/secrets", "/configmaps":
		return q.read
	case "/persistentvolumeclaims":
		if q.a.Subresource == "status" {
			return q.claimStatus
		}
		return q.get
	case "/persistentvolumes", "resource.k8s.io/resourceclaims", "storage.k8s.io/volumeattachments":
		return q.get
	case "/serviceaccounts":
		if q.a.Verb == "get" && q.a.Subresource == "" {
			return q.read
		}
		return q.token
	case "coordination.k8s.io/leases":
		return q.lease
	case "storage.k8s.io/csinodes":
		return q.csiNode
	case "resource.k8s.io/resourceslices":
		return q.slice
	case "/nodes":
		return q.self
	case "/pods":
		return q.pod
	case "certificates.k8s.io/podcertificaterequests":
		return q.podCertificate
	}
	return nil
}

func (q nodeQuestion) verb(verbs string) bool {
	return slices.Contains(strings.Fields(verbs), q.a.Verb)
}

// read is for objects that are listed and watched one at a time.
func (q nodeQuestion) read() (bool, string, error) {
	switch {
	case !q.verb("get list watch"):
		return false, "can only read resources of this type", nil
	case q.a.Subresource != "":
		return false, "cannot read subresource", nil
	case q.a.Namespace == "":
		return false, "can only read namespaced object of this type", nil
	}
	return q.related()
}

func (q nodeQuestion) get() (bool, string, error) {
	switch {
	case q.a.Verb != "get":
		return false, "can only get individual resources of this type", nil
	case q.a.Subresource != "":
		return false, "cannot get subresource", nil
	}
	return q.related()
}

func (q nodeQuestion) claimStatus() (bool, string, error) {
	if !q.verb("update patch") {
		return false, "can only get/update/patch this type", nil
	}
	return q.related()
}

func (q nodeQuestion) token() (bool, string, error) {
	switch {
	case q.a.Verb != "create" || q.a.Name == "":
		return false, "can only create tokens for individual service accounts", nil
	case q.a.Subresource != "token":
		return false, "can only create token subresource of serviceaccount", nil
	}
	return q.related()
}

func (q nodeQuestion) lease() (bool, string, error) {
	switch {
	case !q.verb("get create update patch delete"):
		return false, "can only get, create, update, patch, or delete a node lease", nil
	case q.a.Namespace != corev1.NamespaceNodeLease:
		return false, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease), nil
	case q.a.Verb != "create" && q.a.Name != q.node:
		return false, "can only access node lease with the same name as the requesting node", nil
	}
	return true, "", nil
}

func (q nodeQuestion) csiNode() (bool, string, error) {
	switch {
	case !q.verb("get create update patch delete"):
		return false, "can only get, create, update, patch, or delete a CSINode", nil
	case q.a.Subresource != "":
		return false, "cannot authorize CSINode subresources", nil
	case q.a.Verb != "create" && q.a.Name != q.node:
		return false, "can only access CSINode with the same name as the requesting node", nil
	}
	return true, "", nil
}

func (q nodeQuestion) slice() (bool, string, error) {
	switch {
	case q.a.Subresource != "":
		return false, "cannot authorize ResourceSlice subresources", nil
	case q.a.Verb == "create":
		return true, "", nil
	case q.verb("get update patch delete"):
		return q.related()
	case !q.verb("list watch deletecollection"):
		return false, "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection", nil
	case q.a.Selects("spec.nodeName", q.node):
		return true, "", nil
	}
	return false, "can only list/watch/deletecollection resourceslices with nodeName field selector", nil
}

func (q nodeQuestion) podCertificate() (bool, string, error) {
	switch {
	case q.a.Subresource != "":
		return false, "nodes may not access the status subresource of PodCertificateRequests", nil
	case q.a.Verb == "create":
		return true, "", nil
	case q.a.Verb == "get":
		return q.related()
	case !q.verb("list watch"):
		return false, fmt.Sprintf("nodes may not %s podcertificaterequests", q.a.Verb), nil
	case q.a.Selects("spec.nodeName", q.node):
		return true, "", nil
	}
	return false, "can only list/watch podcertificaterequests with nodeName field selector", nil
}

// self is about Nodes: an agent looks at its own before it has made it.
func (q nodeQuestion) self() (bool, string, error) {
	switch {
	case q.a.Subresource == "status" && q.verb("update patch"), q.a.Subresource == "" && q.verb("create update patch"):
		return true, "", nil
	case q.a.Subresource != "" || !q.verb("get list watch"):
		return false, "", nil
	case q.a.Name == q.node:
		return true, "", nil
	case q.a.Name == "":
		return false, fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", q.node), nil
	}
	return false, fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", q.node, q.a.Name), nil
}

func (q nodeQuestion) pod() (bool, string, error) {
	switch q.a.Subresource + "." + q.a.Verb {
	case ".create", ".delete", "status.update", "status.patch", "eviction.create":
		return true, "", nil
	case ".get":
		return q.related()
	case ".list", ".watch":
		switch {
		case q.a.Selects("spec.nodeName", q.node):
			return true, "", nil
		case q.a.Name != "":
			return q.related()
		}
		return false, "can only list/watch pods with spec.nodeName field selector", nil
	}
	return false, "", nil
}

// related looks for a pod on the node through which the node has to do with the
// object.
func (q nodeQuestion) related() (bool, string, error) {
	if q.a.Name == "" {
		return false, "No Object name found", nil
	}
	ok, err := q.concerned()
	if err != nil {
		return false, "", fmt.Errorf("cannot find out what node %q has to do with %s %q: %w", q.node, q.a.Resource, q.a.Name, err)
	}
	if ok {
		return true, "", nil
	}
	return false, fmt.Sprintf("no relationship found between node '%s' and this object", q.node), nil
}
