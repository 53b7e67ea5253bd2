package garbage

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// node is one object as the graph knows it.
type node struct {
	uid        types.UID
	resource   client.Resource
	key        client.Key
	owners     []metav1.OwnerReference
	dependents map[types.UID]*node
	deleting   bool
	// foreground and orphan tell which of the two finalizers it has.
	foreground, orphan bool
	// seen is false for owners known only from references.
	seen bool
}

// graph is the owner graph. It is not safe for concurrent use.
type graph struct {
	nodes map[types.UID]*node
	// gone holds owners that were looked up and do not exist.
	gone map[types.UID]bool
}

func newGraph() *graph { return &graph{nodes: map[types.UID]*node{}, gone: map[types.UID]bool{}} }

func (g *graph) node(uid types.UID) *node {
	n := g.nodes[uid]
	if n == nil {
		n = &node{uid: uid, dependents: map[types.UID]*node{}}
		g.nodes[uid] = n
	}
	return n
}

// put takes an object in and returns the nodes to look at because of it.
func (g *graph) put(r client.Resource, obj client.Object) []types.UID {
	n := g.node(obj.GetUID())
	for _, o := range n.owners {
		if owner := g.nodes[o.UID]; owner != nil {
			delete(owner.dependents, n.uid)
			g.forget(owner)
		}
	}
	was := *n
	n.seen, n.resource, n.key = true, r, client.KeyOf(obj)
	n.owners = obj.GetOwnerReferences()
	n.deleting = obj.GetDeletionTimestamp() != nil
	n.foreground = n.deleting && slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents)
	n.orphan = n.deleting && slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents)
	var look []types.UID
	for _, o := range n.owners {
		owner := g.node(o.UID)
		owner.dependents[n.uid] = n
		if owner.foreground && n.deleting {
			look = append(look, owner.uid)
		}
	}
	if len(n.owners) > 0 && (!was.seen || !sameOwners(was.owners, n.owners)) {
		look = append(look, n.uid)
		for _, o := range was.owners { // no longer blocks its former owners
			look = append(look, o.UID)
		}
	}
	if n.foreground || n.orphan {
		look = append(look, n.uid)
		if n.foreground && !was.foreground {
			look = append(look, n.dependentIDs()...)
		}
	}
	return look
}

// drop takes a deleted object out and returns the nodes to look at.
func (g *graph) drop(uid types.UID) []types.UID {
	n := g.nodes[uid]
	if n == nil {
		return nil
	}
	look := n.dependentIDs()
	for _, o := range n.owners {
		owner := g.nodes[o.UID]
		if owner == nil {
			continue
		}
		delete(owner.dependents, uid)
		if owner.foreground {
			look = append(look, owner.uid)
		}
		g.forget(owner)
	}
	n.seen, n.owners, n.deleting, n.foreground, n.orphan = false, nil, false, false, false
	if len(n.dependents) > 0 {
		g.gone[uid] = true
	}
	g.forget(n)
	return look
}

// forget removes a node that nothing refers to.
func (g *graph) forget(n *node) {
	if !n.seen && len(n.dependents) == 0 {
		delete(g.nodes, n.uid)
		delete(g.gone, n.uid)
	}
}

func (n *node) dependentIDs() []types.UID {
	ids := make([]types.UID, 0, len(n.dependents))
	for id := range n.dependents {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (n *node) blocks(owner types.UID) bool {
	i := slices.IndexFunc(n.owners, func(o metav1.OwnerReference) bool { return o.UID == owner })
	return i >= 0 && n.owners[i].BlockOwnerDeletion != nil && *n.owners[i].BlockOwnerDeletion
}

// waitsFor reports whether n is deleted in the foreground and waits, itself or
// through others that wait, for target. Of a circle one must go first.
func (n *node) waitsFor(target *node) bool {
	seen := map[*node]bool{}
	var from func(*node) bool
	from = func(at *node) bool {
		if !at.foreground || seen[at] {
			return false
		}
		if at == target {
			return true
		}
		seen[at] = true
		for _, d := range at.dependents {
			if d.blocks(at.uid) && from(d) {
				return true
			}
		}
		return false
	}
	return from(n)
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool { return x.UID == y.UID })
}

// verdict is what to do about a node.
type verdict struct {
	// verify are owners to look up first; look at the node again after.
	verify []metav1.OwnerReference
	// remove deletes the object with this propagation.
	remove metav1.DeletionPropagation
	// disown removes the references to these owners.
	disown []types.UID
	// release removes this finalizer of the object.
	release string
	// orphans have their reference to this node removed before release.
	orphans []types.UID
	// then are other nodes to look at.
	then []types.UID
}

// judge decides about a node, as upstream's attemptToDelete.
func (g *graph) judge(uid types.UID) (v verdict) {
	n := g.nodes[uid]
	if n == nil || !n.seen {
		return v
	}
	switch {
	case n.orphan:
		v.orphans, v.release = n.dependentIDs(), metav1.FinalizerOrphanDependents
		return v
	case n.foreground:
		blocking := false
		for _, id := range n.dependentIDs() {
			if d := n.dependents[id]; d.blocks(uid) && !d.waitsFor(n) {
				blocking = true
				if !d.deleting {
					v.then = append(v.then, id)
				}
			}
		}
		if !blocking {
			v.release = metav1.FinalizerDeleteDependents
		}
		return v
	case n.deleting, len(n.owners) == 0:
		return v
	}
	var solid, waiting int
	for _, o := range n.owners {
		owner := g.nodes[o.UID]
		switch {
		case owner != nil && owner.seen && owner.foreground:
			waiting++
			v.disown = append(v.disown, o.UID)
		case owner != nil && owner.seen:
			solid++
		case g.gone[o.UID]:
			v.disown = append(v.disown, o.UID)
		default:
			v.verify = append(v.verify, o)
		}
	}
	switch {
	case len(v.verify) > 0:
		v.disown = nil
	case solid > 0:
		// stays; references to owners that are going are dropped
	case waiting > 0 && len(n.dependents) > 0:
		v.disown, v.remove = nil, metav1.DeletePropagationForeground
	default:
		v.disown, v.remove = nil, metav1.DeletePropagationBackground
	}
	return v
}
