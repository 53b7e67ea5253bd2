// Package volumeprotection keeps claims, volumes and volume attributes classes
// that are deleted for as long as they are in use.
//
// It owns the finalizers kubernetes.io/pvc-protection, pv-protection and
// vac-protection, which the admission plugin StorageObjectInUseProtection sets
// and these controllers set on what was made without it, and the condition
// Unused of claims (KEP-5541). It promises to take a finalizer off as soon as
// the deleted object is not used:
//
//   - a claim while a pod with a node refers to it, be the pod finished or not:
//     a node unmounts until the pod is gone, and starts none whose claim is
//     being deleted, so a pod without a node does not count;
//   - a volume while its phase is Bound;
//   - a class while a claim or a volume names it.
//
// It refuses to look behind other finalizers: those are their owners' matter.
package volumeprotection
