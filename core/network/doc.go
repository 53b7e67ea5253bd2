// Package network is the pod network of one node: addresses, links and the
// CNI server that hands them to sandboxes.
//
// It owns the bridge (default binnacle0) with the node's gateway address, one
// veth pair per pod, the leases under <DataDir>/network/leases, the nftables
// table "ip binnacle-network" (masquerade and hostPorts), the CNI
// configuration <DataDir>/cni/net.d/10-binnacle.conflist and the socket
// <RunDir>/cni.sock, to which the binnacle-cni plugin forwards every call.
//
// A pod gets a /32 address and a default route through the gateway, so that
// every packet between pods is routed by the node, also between two pods of
// the same node. Service translation and its reverse, and later network
// policies, therefore see both directions without br_netfilter;
// net.bridge.bridge-nf-call-iptables is neither needed nor changed. The pod's
// MAC address is derived from its IP address, so a reused address never meets
// a stale neighbour entry.
//
// It promises:
//   - A lease is on disk before its address is in a sandbox, and off disk only
//     after the sandbox' link is gone. Killing the process at any moment
//     leaks at most a lease, which the reconciler takes back when neither the
//     sandbox' namespace nor its link exist.
//   - Starting again adopts the bridge, links, rules and leases that are there.
//   - Every CNI call may be repeated. DEL of something unknown succeeds.
//   - Rules that someone else flushed are put back within Config.Reconcile.
//   - Down removes everything it made from the kernel.
//
// It refuses IPv6 and dual-stack pod addresses, routes to other nodes, and
// NetworkPolicy: they are not here yet. hostPorts answer on the node's
// addresses, not on 127.0.0.1.
package network
