// Package telemetry gives every component its own metrics registry, tracer and
// logger, and gives the observability products one place to find them all.
//
// It owns the Hub (one per process) and the Components it hands out. It
// promises that a component's metrics, spans and logs carry the component's
// name, that gathering one component never blocks on another, and that spans
// reach every processor added to the Hub, whether it was added before or after
// the component. It refuses to know what happens to them: stores, scrapers and
// exporters are products above core.
//
// It is the leaf package: every package may import it and it imports nothing
// of this module.
package telemetry
