// Package quota says how much of a ResourceQuota an object uses.
//
// It owns the rules of upstream's quota evaluators: which objects a quota
// counts, under which resource names, and within which scopes. Its functions
// are pure, but for Used, which reads through a client; admission and the quota
// controller share them. It refuses to decide: it only counts.
package quota
