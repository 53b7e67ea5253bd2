// Package controllertest plays controllers' stories: a txtar file holds the
// objects that are there and the plan that a reconciliation must make of them.
//
// It owns the format. objects.yaml (any number of documents; defaults are
// filled in, a missing UID is made of the name, "controller: Kind/name" in the
// annotations makes an owner reference), and one section per key:
//
//	-- reconcile default/web --
//	create ReplicaSet default/web-5d9f
//	...
//
// The comment may set the time: "now: 2026-01-01T00:00:00Z". With UPDATE set in
// the environment, plans are written instead of compared.
package controllertest
