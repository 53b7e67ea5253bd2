// Package kubestate turns API objects into the series that kube-state-metrics
// made the common language of Kubernetes dashboards and rules.
//
// It owns, per kind, the pure function from an object to its series, and the
// State that follows the kinds through client watches and keeps the present
// series of every object, so that an append to storage costs no label work.
// It promises kube-state-metrics' names, labels and values for the kinds it
// lists (see Resources), and that a series leaves when its object, or the
// state that gave rise to it, does. It refuses custom resources and metrics
// that upstream marks experimental.
package kubestate
