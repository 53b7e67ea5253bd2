// Package job runs Jobs: pods that are to succeed a number of times.
//
// It owns the pods that carry its controller reference, the finalizer
// batch.kubernetes.io/job-tracking on them, and the status of Jobs. It promises
// that a pod that ended is counted exactly once, whatever is interrupted: its
// UID is first kept in the status, then its finalizer goes, then the counter
// rises (KEP-2307). It promises as well that a Job is called Complete or Failed
// only when none of its pods runs any more (KEP-3939).
//
// How long a replacement waits after failures is read off the pods that are
// there, so that a restart of this process forgets nothing.
//
// It refuses Jobs that spec.managedBy leaves to another controller (KEP-4368).
package job
