// Package runtime is the agent's view of a container runtime.
//
// It owns the observed state of sandboxes and containers (Sandbox, Container),
// the labels under which the agent finds its own again after a restart, and
// CRI, the client of a container runtime's socket. It promises that what it
// returns is a copy nobody else changes, that every call is measured under
// upstream's kubelet_runtime_operations_* names and that the slow ones (image
// pull, sandbox creation, container create, start and stop) are spans. It
// refuses to decide anything: what to run is podstate's business, and how a pod
// becomes a sandbox configuration is podspec's.
package runtime
