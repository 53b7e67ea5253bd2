// Package events records what happened to objects, as kubectl describe and
// kubectl get events show it.
//
// It owns the Recorder, one per component. It promises that recording never
// blocks the caller, that repetitions of an event within ten minutes raise the
// count of one Event object instead of making new ones, and that what cannot
// be kept is counted. It refuses to retry for long: an event is a help, not a
// record of truth.
package events
