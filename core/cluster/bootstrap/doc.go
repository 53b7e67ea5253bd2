// Package bootstrap makes the objects every cluster has from its first minute.
//
// It owns the default namespaces, the default RBAC policy (upstream's roles and
// bindings, and those of kubeadm that clients rely on), the system priority
// classes, the kubernetes Service with its endpoints, and the ConfigMaps
// extension-apiserver-authentication (for aggregated API servers), cluster-info
// (for joining nodes) and that of the tracking of legacy tokens. It promises that
// Bootstrap can be run at every start: it creates what is missing, gives default roles
// and bindings back what they have lost (unless they are annotated
// rbac.authorization.kubernetes.io/autoupdate: "false"), keeps what has been
// added to them, and writes nothing when there is nothing to do.
//
// Roles with an aggregationRule are filled at the end of Bootstrap and then by
// Aggregator, which runs as long as the server.
//
// It refuses to change namespaces, priority classes and services of people's
// own making. Bootstrap acts as system:masters.
package bootstrap
