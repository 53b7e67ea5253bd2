// Package deployment rolls Deployments out.
//
// It owns the ReplicaSets that carry its controller reference: one per pod
// template, named by the template's hash, numbered by revision. A plan scales
// them so that, while one template replaces another, no more than maxSurge pods
// are too many and no more than maxUnavailable are missing; it cleans up old
// ReplicaSets beyond the history limit and says in the conditions how far it
// got. Decisions follow upstream's controller, the oracle where words differ.
// It refuses to touch pods.
package deployment
