// Package dns is the cluster's DNS on every node: CoreDNS as a library, bound
// to the cluster DNS address, answering cluster.local from this process' view
// of Services and EndpointSlices and forwarding the rest.
//
// It owns the interface binnacle-dns with the cluster DNS address, the
// CoreDNS plugin "binnacle" (which also answers to the name "kubernetes", so
// that existing Corefiles work), and the ConfigMap kube-system/coredns when
// nobody else made it. Users own that ConfigMap afterwards: a changed Corefile
// is loaded at once, and one that does not load leaves the previous one
// serving, with a log line, a metric and an event.
//
// It promises the Kubernetes DNS specification 1.1.0 for Services (A, AAAA,
// SRV, PTR, CNAME, headless with hostnames), NXDOMAIN only for names that do
// not exist and NODATA for those that exist without the type asked, and
// SERVFAIL, never a wrong NXDOMAIN, while the state is not known yet.
//
// A server block on port 53 listens at Config.Address, whatever its bind
// directive would be without one. Known directives are those in directives();
// health, ready, prometheus, reload and loop are accepted and mean what this
// process does anyway: readiness by Ready, metrics by the component's
// registry, reload by the watch, and a forwarder that is the server itself is
// refused when the Corefile is loaded.
//
// It refuses "pods verified" (there is no watch of pods), zone transfers, and
// everything that needs a CoreDNS plugin that is not built in. CoreDNS keeps
// its plugins and metrics in variables of the process; two Servers in one
// process therefore share metrics, and nothing else.
package dns
