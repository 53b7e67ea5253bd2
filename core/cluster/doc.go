// Package cluster makes a directory and an API server into a cluster.
//
// Its subpackages own one subject each: pki the keys and certificates,
// kubeconfig the files people and programs connect with, bootstrap the objects
// that every Kubernetes cluster has from its first minute. They promise to be
// idempotent: running them again on what they made changes nothing, and what
// was interrupted is completed. They refuse to replace what they did not make
// or cannot read: the error names the file or object and what to do.
package cluster
