// Package replicaset keeps the number of pods of ReplicaSets and
// ReplicationControllers at their replicas.
//
// It owns the pods that carry its controller reference, adopts orphans that
// match the selector and releases pods that no longer do. It promises to
// delete, when there are too many, those first that are worth least: not
// assigned, pending, not ready, doubled up on a node, younger, restarted more
// often. It refuses to touch pods of other controllers.
package replicaset
