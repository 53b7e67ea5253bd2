// Package api is the request pipeline and its two doors.
//
// It owns what happens between a request and the store: routing, content
// negotiation, authorization, admission, defaulting, validation, field
// ownership, deletion rules, lists, watches, subresources, discovery, health,
// audit and the metrics and span of each request. HTTP requests enter at the
// top (Server.Handler, Server.Run); in-process clients (Server.Client) enter
// below decoding under their own identity and pass everything after it but
// priority and fairness: they are the server itself, and what repairs the
// cluster must not wait behind its load.
//
//	decode → authenticate → audit → priority & fairness → authorize → prepare
//	       → default → own (managedFields) → mutate → default → validate
//	       → admit → store → encode
//
// It promises:
//
//   - The pipeline is generic over kind.Kind. Objects are held in the hub
//     version; other served versions convert at the edge, both ways.
//   - Every failure is an apierrors.APIStatus with upstream's code, reason and
//     wording; a panic is a counted 500, never the end of the process.
//   - Every request has one latency observation and the audit events that the
//     policy asks for; every request that is not an in-process read has one span, which continues the
//     caller's trace. In-process reads from the cache are authorized and cost
//     nothing else. The trace is recorded on created and changed objects in
//     the annotation telemetry.TraceAnnotation, which clients cannot set.
//     A request over half a second leaves one line in the log that says where
//     its time went.
//   - A field manager is recorded for every write.
//
// It refuses to know what particular kinds mean (package kind), who may do
// what (package auth) and how state is kept (package store). It answers what
// it does not implement with 404, 405, 406 or 501, never with an empty success.
package api
