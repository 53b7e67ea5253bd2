// Package scheduler finds a node for every pod.
//
// It owns the queue of unassigned pods, the picture of the nodes they may go
// to, and the decision. The decision is a pure function of pod and picture,
// built of filters and scores: plain functions in a list. It promises upstream's
// default rules for what it implements, that a pod assumed on a node counts
// there at once, that binding never holds up the next decision, and that it can
// always say why a pod has no node: per reason counts in the pod's condition,
// an event, a metric and a span.
//
// It refuses, for now, to preempt: a pod of high priority waits like any other.
// A pod that needs a volume bound is left pending, and its condition says so.
package scheduler
