// Package auth says who makes a request and what they may do.
//
// It owns authentication (client certificates, service-account tokens,
// anonymous), impersonation, the issuing of service-account tokens with their
// OIDC discovery, and authorization (Node, RBAC). It promises that
//
//   - a request without credentials is system:anonymous, one with bad credentials
//     is refused, and nobody is in system:authenticated otherwise;
//   - a token is good only as long as its account and the pod, node or secret it is
//     bound to exist under the same UID;
//   - every grant names the binding, role and subject that gave it, and every
//     refusal the user, the verb and the resource, in upstream's words.
//
// RBAC is decided on an index of all roles and bindings that Run keeps by
// watching; a decision reads memory only. Before Ready nothing is allowed except to
// system:masters.
//
// It refuses to admit anything by default, and to write: default roles are
// core/cluster/bootstrap's.
package auth
