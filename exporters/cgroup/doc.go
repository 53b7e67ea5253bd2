// Package cgroup reads containers' resource use from the kernel's control
// groups, version 1 and 2, and shows it under the names cAdvisor and the
// kubelet gave it.
//
// It owns the Sampler, which keeps the few files that matter every second
// (CPU time and memory) open and reads them without allocating; the Exporter,
// which reads everything else on demand as Prometheus metrics; and three HTTP
// handlers, each usable alone: the kubelet's /metrics/cadvisor,
// /metrics/resource and /stats/summary.
//
// It promises that a container which goes away between the inventory and the
// read is left out, never reported as zero, and that a counter is reported as
// the kernel counts it. It learns which cgroup is which container from the
// Inventory its user gives it, and refuses to guess names from paths.
package cgroup
