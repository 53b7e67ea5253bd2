// Package node shows the machine's own metrics under node_exporter's names.
//
// It owns the choice of node_exporter's collectors and their configuration,
// and an HTTP handler usable alone. The collectors themselves are the
// project's, embedded. It promises node_exporter's names, labels and defaults
// plus the collectors the "Node Exporter Full" dashboard asks for, and that
// virtual interfaces and mounts of pods are left out. It refuses collectors
// that need D-Bus or fork commands.
package node
