// Package proxy makes Services reachable from this node: a desired table is
// planned from Services and EndpointSlices, compared with what the kernel was
// last given, and the difference is written through netlink in one
// transaction.
//
// It owns the nftables tables "ip binnacle-proxy" and "ip6 binnacle-proxy" and
// nothing else in the kernel; it never reads or changes other tables and may
// run beside another cluster's proxy. Marked packets (bit 0x4000, upstream's)
// are masqueraded.
//
// It promises:
//   - Plan is pure: the same objects give the same table, whoever asks. Every
//     endpoint that is not used has a reason (Explain).
//   - A change of one Service costs what that Service is large, not what the
//     cluster is. The first change is programmed at once; what arrives while
//     the kernel is busy goes into the next transaction.
//   - The kernel has the old rules or the new ones, never half. A restart
//     replaces the table in one transaction; connections go on.
//   - A failed transaction is retried with the whole table. A slow audit
//     compares the kernel with the plan and repairs what others changed.
//   - UDP flows to endpoints that are gone are forgotten (conntrack), and so
//     are those that began before there was an endpoint.
//
// ClusterIPs, NodePorts, external IPs and load balancer IPs are served for
// TCP, UDP and SCTP, with ClientIP affinity, internal and external traffic
// policy Local, source ranges, and the fall-back to terminating endpoints.
// NodePorts answer on every address of the node except 127.0.0.0/8 and ::1,
// as upstream's nftables mode. Connections to Services without endpoints are
// refused at once (TCP reset, ICMP port unreachable); those whose policy Local
// finds none on this node are dropped, as upstream drops them.
//
// It refuses (not here yet): topology hints and trafficDistribution, the
// health check node port, the ipvs backend. Addresses in Config.Local, which
// the node answers itself (cluster DNS), are left alone.
package proxy
