// Package audit records who asked for what and what became of it, in the
// format of audit.k8s.io/v1, one JSON object a line.
//
// It owns the audit policy (which rule decides for a request, at which level
// and stages), the events and their encoding, the file they go to, and the
// apiserver_audit_* metrics. It promises:
//
//   - Rules are tried in order and the first that matches decides; without a
//     match nothing is recorded. Without a policy file every request is recorded
//     at level Metadata, without the stage RequestReceived.
//   - An event is handed to the operating system before the stage it tells of
//     is over (upstream's mode "blocking"): nothing is buffered, so nothing that
//     was answered is missing after the process dies. In the mode
//     "blocking-strict" a request whose RequestReceived cannot be written is
//     refused.
//   - A policy that cannot be read whole, unknown fields included, is refused.
//     (Upstream reads what it understands of it and goes on.)
//   - Bodies are recorded at the levels Request and RequestResponse only, as
//     JSON in the version that was spoken, without managedFields where the
//     policy says so. Secrets, tokens and their requests are bodies like others:
//     it is the policy that keeps them out.
//
// It refuses to judge requests and to know HTTP: the pipeline tells it. Requests
// of in-process clients are recorded at level Metadata at most: they have no
// bodies.
package audit
