// Package cgroup keeps the cgroups above the containers: one for all pods, one
// per quality-of-service class, one per pod.
//
// It owns that subtree on cgroup v1 (every mounted hierarchy) and v2. It
// promises that a pod's cgroup carries its limits before anything runs in it
// and that removal leaves nothing behind. It refuses to look at the containers'
// own cgroups (the runtime makes those) and at anything outside its root.
package cgroup
