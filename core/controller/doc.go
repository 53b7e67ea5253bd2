// Package controller is the runtime of all controllers.
//
// A controller is data: a name, the inputs it reads, the resources it writes,
// and a reconcile function from State to Plan. The function decides and does
// no I/O; the runtime watches the inputs, queues keys, reads nothing it does
// not have to, and carries the plan out under the controller's own identity.
//
// It promises: a key is reconciled by one worker at a time; a change seen while
// it is being reconciled brings it back; a failed plan is retried with back-off
// and counted; reads see the controller's own earlier writes; only the holder
// of the Lease runs. Work continues the trace of the object that caused it.
//
// It refuses shared mutable state between controllers: the API is where they
// meet, and two controllers that declare the same output do not start.
package controller
