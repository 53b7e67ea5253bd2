package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/network/nft"
)

// program is what one row is in nftables: chains, elements of the shared maps
// and sets, and sets that remember clients. It is a value: two programs are
// compared to find what to send.
type program struct {
	affinity *affinity
	chains   []chain
	// elements are keyed by set and key, and belong to this row alone.
	elements map[element]string // the chain to go to
	// shared elements may be needed by several rows.
	shared map[element]bool
}

// element is a key in one of the table's sets.
type element struct {
	set setName
	key string // bytes as in the kernel
}

// affinity is a set of clients for each endpoint of a row.
type affinity struct {
	name      string
	timeout   time.Duration
	endpoints []netip.AddrPort
}

// sets lists the names of the sets with their timeouts.
func (a *affinity) sets() map[string]time.Duration {
	m := map[string]time.Duration{}
	if a != nil {
		for _, e := range a.endpoints {
			m[clientsOf(a.name, e)] = a.timeout
		}
	}
	return m
}

// clientsOf names the set of an endpoint's clients.
func clientsOf(affinity string, e netip.AddrPort) string {
	return affinity + "/" + strings.ReplaceAll(e.Addr().String(), ":", "-") + "/" + strconv.Itoa(int(e.Port()))
}

type chain struct {
	name string
	body []step
}

// step is one or a few rules of a chain.
type step struct {
	op        operation
	prefix    netip.Prefix     // of opMarkOutside, opGotoInside
	chain     string           // of gotos
	endpoints []netip.AddrPort // of opBalance
	affinity  string           // of opBalance: the prefix of its sets' names
}

type operation int

const (
	// opMark marks for masquerade.
	opMark operation = iota
	// opMarkOutside marks when the source is outside the prefix.
	opMarkOutside
	// opGotoInside goes to a chain when the source is inside the prefix.
	opGotoInside
	// opGotoLocal marks and goes to a chain when the source is this node.
	opGotoLocal
	// opGoto goes to a chain.
	opGoto
	// opBalance picks one of the endpoints.
	opBalance
	// opDrop drops.
	opDrop
)

// setName is one of the table's sets and maps.
type setName string

// The sets and maps of a table.
const (
	// services maps (address, protocol, port) to the row's chain.
	services setName = "services"
	// nodePorts maps (protocol, port) on the node's addresses likewise.
	nodePorts setName = "nodeports"
	// refusals and nodePortRefusals map those without endpoints to the chains
	// refuse or ignore.
	refusals         setName = "refusals"
	nodePortRefusals setName = "nodeport-refusals"
	// clusterIPs are refused at ports they do not have.
	clusterIPs setName = "cluster-ips"
	// hairpin holds (a, a) for each local endpoint a: what it sends to
	// itself must come back through the node.
	hairpin setName = "hairpin"
)

// endpointsOf names the map from (pool, index) to an endpoint. A pool is the
// number of a chain that balances. Pools share maps because the kernel finds
// maps by walking a list; not too many share one, because for each element it
// walks the rules that use the map.
func endpointsOf(pool uint32) setName {
	const pools = 64
	return setName("endpoints-" + strconv.Itoa(int(pool/pools)))
}

// Fixed chains that elements go to.
const (
	chainRefuse = "refuse"
	chainIgnore = "ignore"
)

// render makes a row's program. owns tells which frontends are the row's.
// clusterCIDR is of the row's family, or invalid where pods are not told from
// others.
func render(p *Port, owns func(Frontend) bool, clusterCIDR netip.Prefix) program {
	r := program{elements: map[element]string{}, shared: map[element]bool{}}
	id := chainID(p)
	internal, cluster, external, ranged := "internal-"+id, "cluster-"+id, "external-"+id, "ranged-"+id
	if p.Affinity > 0 && len(p.Cluster) > 0 {
		r.affinity = &affinity{name: "affinity-" + id, timeout: p.Affinity}
		for _, e := range p.Cluster {
			r.affinity.endpoints = append(r.affinity.endpoints, e.AddrPort)
		}
	}
	balance := func(pool []Endpoint) step {
		s := step{op: opBalance}
		for _, e := range pool {
			s.endpoints = append(s.endpoints, e.AddrPort)
		}
		if r.affinity != nil {
			s.affinity = r.affinity.name
		}
		return s
	}
	// Clients that are not pods get the node's address towards endpoints on
	// other nodes, so that replies come back here.
	var markOutside []step
	if clusterCIDR.IsValid() {
		markOutside = []step{{op: opMarkOutside, prefix: clusterCIDR}}
	}
	need := map[string]bool{}
	for _, f := range p.Frontends {
		if !owns(f) {
			continue
		}
		target, refusal := external, ""
		pool := p.External
		if f.Kind == ClusterIP {
			target, pool = internal, p.Internal
			r.shared[element{clusterIPs, string(f.Addr.AsSlice())}] = true
		}
		switch {
		case len(p.Cluster) == 0:
			refusal = chainRefuse
		case len(pool) == 0 && f.Kind == ClusterIP:
			refusal = chainIgnore
		case f.Kind == LoadBalancer && p.SourceRanges != nil:
			need[external], target = true, ranged
		}
		set, refusedIn := services, refusals
		key := string(nft.ProtoPortKey(protocolNumber(p.Protocol), f.Port))
		if f.Kind == NodePort {
			set, refusedIn = nodePorts, nodePortRefusals
		} else {
			key = string(f.Addr.AsSlice()) + key
		}
		if refusal != "" {
			r.elements[element{refusedIn, key}] = refusal
			continue
		}
		r.elements[element{set, key}] = target
		need[target] = true
	}
	add := func(name string, body ...step) { r.chains = append(r.chains, chain{name, body}) }
	if need[external] {
		need[cluster] = true
	}
	if need[cluster] {
		add(cluster, balance(p.Cluster))
	}
	if need[internal] {
		if need[cluster] && reflect.DeepEqual(p.Internal, p.Cluster) {
			add(internal, append(markOutside, step{op: opGoto, chain: cluster})...)
		} else {
			add(internal, append(markOutside, balance(p.Internal))...)
		}
	}
	if need[external] {
		switch {
		case !p.ExternalLocal:
			add(external, step{op: opMark}, step{op: opGoto, chain: cluster})
		default:
			// What comes from the cluster itself is not external (KEP-1669,
			// upstream's short circuit).
			var body []step
			if clusterCIDR.IsValid() {
				body = append(body, step{op: opGotoInside, prefix: clusterCIDR, chain: cluster})
			}
			body = append(body, step{op: opGotoLocal, chain: cluster})
			if len(p.External) > 0 {
				body = append(body, balance(p.External))
			} else {
				body = append(body, step{op: opDrop})
			}
			add(external, body...)
		}
	}
	if need[ranged] {
		var body []step
		for _, pre := range p.SourceRanges {
			body = append(body, step{op: opGotoInside, prefix: pre, chain: external})
		}
		add(ranged, append(body, step{op: opDrop})...)
	}
	if len(r.chains) > 0 {
		for _, e := range p.Cluster {
			if e.Local {
				r.shared[element{hairpin, string(nft.AddrPairKey(e.Addr(), e.Addr()))}] = true
			}
		}
	}
	return r
}

// chainID names a row's chains: a hash for uniqueness, then as much of the
// name as a chain name (at most 255 bytes, some prefix away) has room for.
func chainID(p *Port) string {
	full := p.Namespace + "/" + p.Service + "/" + string(p.Protocol) + "/" + p.PortName.Port
	sum := sha256.Sum256([]byte(full))
	return (base32.StdEncoding.EncodeToString(sum[:5]) + "-" + full)[:min(8+1+len(full), 200)]
}

// pool returns the step that balances, if the chain has one.
func (c chain) pool() (step, bool) {
	for _, s := range c.body {
		if s.op == opBalance {
			return s, true
		}
	}
	return step{}, false
}

// rules counts the kernel rules a step becomes.
func (s step) rules() int {
	if s.op == opBalance && s.affinity != "" {
		return 2*len(s.endpoints) + 1
	}
	return 1
}

func protocolNumber(p corev1.Protocol) byte {
	switch cmp.Or(p, corev1.ProtocolTCP) {
	case corev1.ProtocolUDP:
		return unix.IPPROTO_UDP
	case corev1.ProtocolSCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}
