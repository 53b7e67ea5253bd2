// Package nettest gives tests network namespaces of their own: nodes, clients
// and pods on one machine, joined by veth pairs, gone with the test.
//
// It promises that nothing it makes has a name outside the test's process, so
// that even a killed test leaves nothing behind. Tests that use it are skipped
// without root.
package nettest
