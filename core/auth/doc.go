// Package auth says who makes a request and what they may do.
//
// It owns authentication (client certificates, front proxies, bearer tokens of
// service accounts, Secrets, a file, bootstrap tokens, OIDC providers and a
// webhook; anonymous), impersonation, the issuing of service-account tokens with
// their OIDC discovery, and authorization (Node, RBAC, ABAC, a webhook). It
// promises that
//
//   - a request without credentials is system:anonymous, one with bad credentials
//     is refused, and nobody is in system:authenticated otherwise;
//   - a token is good only as long as its account and the pod, node or secret it is
//     bound to exist under the same UID, and for the audiences it names;
//   - every grant names the binding, role and subject that gave it, and every
//     refusal the user, the verb and the resource, in upstream's words;
//   - whoever is asked over the network (OIDC provider, webhook) is asked with
//     a time limit, answers are bounded, and forged tokens do not choose how
//     often: keys are fetched at most every ten seconds, answers are cached.
//
// RBAC is decided on an index of all roles and bindings that Run keeps by
// watching; a decision reads memory only. Before Ready nothing is allowed except to
// system:masters.
//
// It refuses to admit anything by default, and to write: default roles are
// core/cluster/bootstrap's. The one thing it writes is the day a legacy token was
// last used. Files are read once: a changed token or policy file needs a restart.
package auth
