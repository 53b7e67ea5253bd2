// Package dashboards is the web page of a running cluster: nodes, workloads,
// pods with their use of CPU and memory, the API server by verb and priority
// level with its store, autoscalers with what they decided and why, alerts,
// warning events, traces as waterfalls, and a box for PromQL.
//
// It owns the page (TypeScript in ui, built by Vite into dist, which is checked
// in and embedded, so that running and building need no node), the state it
// shows, and how that reaches a browser: GET /ui/api/stream sends sections as
// server-sent events, each at most once a second and only when it changed; GET
// /ui/api/state answers the same sections once; /ui/api/history, /ui/api/pods/…
// and /ui/api/traces/… answer what one view needs.
//
// It promises that nothing is watched or queried while nobody looks, that any
// number of viewers cost one set of watches and queries, that slow or too many
// viewers are let go rather than buffered for, and that the page loads nothing
// from anywhere else: its Content-Security-Policy forbids it. Every figure comes
// from the API, the metrics database, the rules, Alertmanager or the span store.
// What cannot be read is named in the section "problems", beside the last state
// that could.
//
// It refuses to change anything, and to decide who may look: whoever reaches
// the handler sees what the given client may read, so it belongs on loopback or
// behind something that authenticates. Secrets, ConfigMaps and the environment
// of containers are never read into the page.
package dashboards
