// Package auth says who makes a request and what they may do.
//
// It owns authentication (client certificates, service-account tokens) and
// authorization (RBAC with the default roles). It promises that a request
// without valid credentials is anonymous and that every refusal names the
// user, the verb and the resource in upstream's words. It refuses to admit
// anything by default.
package auth
