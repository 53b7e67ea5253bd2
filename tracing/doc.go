// Package tracing keeps recent spans of everything in the process and of every
// workload that sends OTLP, and answers the query APIs of Jaeger and Tempo.
//
// It owns the span store (bounded by bytes and by age, in memory, with sealed
// segments on disk), the OTLP receivers (gRPC, and HTTP with protobuf or JSON),
// the processor that takes the process' own spans, and the query handlers.
//
// It promises that recording a span never blocks the code that ends it, that
// memory stays within the configured size, that every span it does not keep is
// counted by reason (queue full, invalid, evicted by size or age), and that a
// clean stop loses nothing that is still within bounds. After a crash the spans
// since the last sealed segment are gone.
//
// It refuses long-term storage and sampling (forward OTLP to Tempo or Jaeger
// for that), TraceQL beyond a single spanset of and-ed conditions, and Jaeger's
// gRPC query API.
package tracing
