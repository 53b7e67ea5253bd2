// Package conformance holds the project to the Kubernetes conformance tests
// that it has once passed.
//
// passing.txt names them; it only grows. passing-quick.txt are those of them
// that need neither image nor node and take less than half a minute: the test
// of this package runs them against a control plane of its own. The tests
// themselves, upstream's, come from the shared conformance suite beside this
// checkout; without it there is nothing to run.
//
// make conformance runs any of them against a running cluster.
package conformance
