// Package apitest starts a whole API server for tests: embedded etcd in a
// temporary directory, the request pipeline with admission and RBAC, and HTTPS
// on a loopback port.
//
// It owns everything it starts and ends it when the test ends. It promises the
// pipeline of production in every part but two: nothing is synced to disk, and
// the ServiceAccount admission plugin is off unless asked for, since no
// controller is there to make the accounts pods would need.
package apitest
