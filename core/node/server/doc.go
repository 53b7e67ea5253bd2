// Package server is the node's HTTPS face: the paths of the upstream kubelet.
//
// It owns routing, authentication and authorization of requests to a node, log
// reading, and the passing on of exec, attach and port-forward streams to the
// container runtime. It promises that nothing is answered to a caller who is
// not known and allowed, and that streams pass through untouched, WebSocket and
// SPDY alike. It refuses to know how pods are run: a Node tells it.
package server
