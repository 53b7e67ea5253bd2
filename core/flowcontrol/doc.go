// Package flowcontrol decides which request runs now, which waits and which is
// refused: API Priority and Fairness (KEP-1040).
//
// It owns the classification of requests by FlowSchemas, the priority levels
// with their seats and queues, the estimate of a request's work, the borrowing
// of seats among levels, the mandatory and suggested objects of
// flowcontrol.apiserver.k8s.io and their maintenance, the Dangling condition of
// FlowSchemas, and the apiserver_flowcontrol_* metrics. It promises:
//
//   - A request is matched by the FlowSchema of least matchingPrecedence (then
//     name), and takes seats of that schema's level until its Ticket ends.
//   - The seats in use of a limited level never exceed its current limit, except
//     by one request that is wider than the limit and runs alone.
//   - Flows that share a level get equal shares of it while they wait for it, in
//     seat-seconds, whatever the number and width of their requests; a flow
//     meets the others only in the queues of its hand.
//   - Nobody waits longer than the request says; queues are bounded.
//   - Every decision says schema, level, flow, seats, queue and wait.
//
// The queueing is a pure core (class): requests and the time go in, decisions
// come out; Controller holds its lock and wakes those it lets through.
//
// One thing differs from upstream on purpose: a request that finds seats free and nobody
// waiting runs at once and is not charged to a queue. Fair shares are kept from
// the moment at which somebody has to wait.
//
// It refuses to limit in-process clients: they are the server itself, they never
// hold a connection, and the cluster's repair must not wait behind its load. It
// does not track long-running requests other than watches, and of watches only
// the time until they have sent their initial state.
package flowcontrol
