// Package controlplane tests API, controllers and scheduler together, on
// embedded etcd and without a node: pods are bound but not run.
package controlplane
