// Package endpointslice tells where the pods of Services are.
//
// It owns the EndpointSlices it is the manager of, and the older Endpoints
// objects of Services with a selector. It promises that an endpoint stays in
// the slice where it was, so that a change of one pod rewrites one slice; that
// readiness, termination and node follow the pod at once; and that slices of a
// deleted Service go (by owner reference). It refuses to touch slices of other
// managers and Endpoints of Services without a selector.
package endpointslice
