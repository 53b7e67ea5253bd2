// Package e2e plays the project's story against the real program: one node on
// this machine, real containers, real traffic, asserted by scripts in testdata.
//
// It needs root and the programs that make build puts into bin. It starts
// binnacle up with a data directory of its own, a registry of stand-in images
// and two receivers of notifications on loopback, and leaves nothing behind.
package e2e
