// Package nodelifecycle watches over nodes.
//
// It owns the pod CIDRs of nodes, the taints that follow a node's conditions,
// the conditions of nodes whose agent is silent, and the eviction of pods from
// nodes with NoExecute taints they do not tolerate. It promises upstream's
// times: a node is unknown 40 s after its last heartbeat, its pods go when
// their toleration runs out. It refuses to delete nodes.
package nodelifecycle
