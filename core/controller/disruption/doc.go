// Package disruption keeps the status of PodDisruptionBudgets: how many pods
// are healthy, how many must be, and so how many may be evicted now.
//
// It promises upstream's arithmetic: percentages and maxUnavailable are of
// the replicas that the pods' owners want, not of the pods there are; a pod
// that the eviction API let go counts as gone for DeletionTimeout even while it
// is still there. When it cannot tell, nothing may be disrupted, and the
// condition says why. It refuses to decide about evictions: the API takes
// them out of status.disruptionsAllowed.
package disruption
