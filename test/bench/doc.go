// Command bench compares a running Binnacle with a running upstream cluster on
// the same machine and prints the speed table: each measure of both, how many
// times better Binnacle is, the target, and whether it is met.
//
//	go run ./test/bench --upstream KUBECONFIG --binnacle KUBECONFIG \
//	    [--upstream-proc apiserver=name:kube-apiserver,etcd=name:etcd] \
//	    [--binnacle-proc binnacle=name:binnacle] [--runs 5] [--quick] [--json FILE]
//
// It owns the order and the targets. Most figures are taken by the project's
// shared tool (--tool, ../shared/bench), which it builds and runs for both
// clusters in turn; where that folder is absent it says so and measures
// nothing. Itself it measures what the tool does not: puts to a bare etcd of
// the same bytes from as many clients on the disk of --dir, memory at rest
// with many pods and watchers, and what many initial states at once cost.
//
// It promises to leave nothing behind in the clusters but what the tool leaves,
// and to exit with 0 whether targets are met or not: it fails only where it
// cannot measure. It refuses to start, stop or configure clusters. Restart both
// before it, since a server keeps memory that earlier work made it take, and
// let nothing else run.
package main
