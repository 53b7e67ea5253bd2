// Package podstate decides what a node does for one pod.
//
// It owns two pure functions of one Input (the desired pod, what was observed
// of it in the runtime, what the worker remembers, and the time): Decide says
// what to do next, Status says what to tell the API. It promises that the same
// Input always gives the same answer, that an action already under way (Busy)
// is never asked for twice, and that a pod which only the API forgot is stopped
// no faster than its grace period. It refuses all I/O: a worker executes the
// plan and comes back with what happened.
//
// The life of a pod, in actions:
//
//	Setup ∥ CreateSandbox ∥ PullImage(first) → StartContainer(init…) → StartContainer(main…)
//	… KillContainer(main…) → KillContainer(sidecars, last first) → StopSandbox → Teardown → DeleteObject → RemoveSandbox
package podstate
