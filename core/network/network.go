package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// Network is the pod network of one node.
type Network struct {
	cfg      Config
	client   client.Client
	podTrace PodTrace
	tel      *telemetry.Component
	metrics  *metrics

	state atomic.Pointer[state] // nil until ready
	ready chan struct{}         // closed with state set

	seed  maphash.Seed
	locks [64]sync.Mutex // by attachment: calls for one sandbox follow each other
}

// state is what exists once the pod CIDR is known.
type state struct {
	host   *host
	pool   *pool
	bridge netlink.Link
	nat    *nat
	mtu    int
	// repair is held exclusively while the rules are replaced by those of all
	// leases, and shared while a lease's rules change.
	repair sync.RWMutex
}

// New checks the configuration and touches nothing yet. c may be nil when
// cfg.PodCIDR is given; podTrace may be nil.
func New(cfg Config, c client.Client, podTrace PodTrace, tel *telemetry.Component) (*Network, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if c == nil && !cfg.PodCIDR.IsValid() {
		return nil, errors.New("cannot find the pod CIDR without an API client")
	}
	n := &Network{cfg: cfg, client: c, podTrace: podTrace, tel: tel, ready: make(chan struct{}), seed: maphash.MakeSeed()}
	n.metrics = newMetrics(tel.Registry, n)
	return n, nil
}

// Ready is closed once CNI calls are answered and the CNI configuration is
// written.
func (n *Network) Ready() <-chan struct{} { return n.ready }

// Run serves CNI calls until ctx ends. The pods' links stay.
func (n *Network) Run(ctx context.Context) error {
	l, err := listen(ctx, n.cfg.Socket())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { n.accept(ctx, l) })
	err = n.run(ctx)
	cancel()
	l.Close()
	wg.Wait()
	if st := n.state.Load(); st != nil {
		st.host.close()
	}
	return err
}

func (n *Network) run(ctx context.Context) error {
	prefix, err := n.podCIDR(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if err := n.setUp(prefix); err != nil {
		return err
	}
	tick := time.NewTicker(n.cfg.Reconcile)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := n.reconcile(ctx); err != nil {
				n.tel.Log.ErrorContext(ctx, "cannot reconcile pod addresses", "error", err)
			}
		}
	}
}

// podCIDR waits for the node's pod CIDR. It returns the zero Prefix when ctx
// ends first.
func (n *Network) podCIDR(ctx context.Context) (netip.Prefix, error) {
	if n.cfg.PodCIDR.IsValid() {
		return n.cfg.PodCIDR, nil
	}
	for ctx.Err() == nil {
		cidr, err := n.watchPodCIDR(ctx)
		if err == nil {
			p, err := netip.ParsePrefix(cidr)
			if err == nil {
				err = usable(p)
			}
			if err != nil {
				return p, fmt.Errorf("cannot use pod CIDR of node %q: %w", n.cfg.Node, err)
			}
			return p, nil
		}
		if ctx.Err() == nil {
			n.tel.Log.WarnContext(ctx, "cannot learn the pod CIDR yet", "node", n.cfg.Node, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return netip.Prefix{}, nil
}

func (n *Network) watchPodCIDR(ctx context.Context) (string, error) {
	w, err := client.WatchOf[*corev1.Node](ctx, n.client, "", client.ReadOptions{Fields: fields.OneTermEqualSelector("metadata.name", n.cfg.Node)})
	if err != nil {
		return "", err
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return "", err
		}
		if node, ok := e.Object.(*corev1.Node); ok && e.Type != client.Deleted && node.Name == n.cfg.Node && node.Spec.PodCIDR != "" {
			return node.Spec.PodCIDR, nil
		}
	}
}

// setUp creates or adopts everything and declares the network ready.
func (n *Network) setUp(prefix netip.Prefix) (err error) {
	h, err := openHost(n.cfg.Namespace)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	st := &state{host: h, mtu: n.cfg.MTU, nat: newNAT(h.fd())}
	if st.mtu == 0 {
		if st.mtu, err = h.mtu(); err != nil {
			return err
		}
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	if st.pool, err = openPool(n.cfg.stateDir(), prefix, strings.TrimSpace(string(boot))); err != nil {
		return err
	}
	gateway := netip.PrefixFrom(st.pool.gateway(), prefix.Bits())
	if st.bridge, err = h.ensureBridge(n.cfg.Bridge, gateway, st.mtu); err != nil {
		return err
	}
	for _, s := range [][2]string{
		{"net.ipv4.ip_forward", "1"},
		// A pod that heeds a redirect would reach another pod directly and
		// the reply would miss the Service's reverse translation. The kernel
		// sends them when either "all" or the interface allows it.
		{"net.ipv4.conf.all.send_redirects", "0"},
		{"net.ipv4.conf." + n.cfg.Bridge + ".send_redirects", "0"},
	} {
		if err := h.sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	if err := st.nat.install(prefix.Masked(), n.cfg.ClusterCIDR, st.pool.leases()); err != nil {
		return err
	}
	if err := n.writeConflist(); err != nil {
		return err
	}
	n.state.Store(st)
	close(n.ready)
	n.tel.Log.Info("pod network ready", "podCIDR", prefix, "bridge", n.cfg.Bridge, "mtu", st.mtu, "leases", len(st.pool.leases()))
	return nil
}

// writeConflist announces the network to the container runtime.
func (n *Network) writeConflist() error {
	body, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.1.0",
		"name":       "binnacle",
		"plugins": []map[string]any{{
			"type":         PluginType,
			"socket":       n.cfg.Socket(),
			"capabilities": map[string]bool{"portMappings": true},
		}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode CNI configuration: %w", err)
	}
	if err := os.MkdirAll(n.cfg.ConfDir(), 0o755); err != nil {
		return fmt.Errorf("cannot create CNI configuration folder: %w", err)
	}
	// The runtime watches the folder: it must never see half a file. The
	// other name is in the same folder because containerd takes no notice of
	// files that are created or moved in from elsewhere, but of renames.
	tmp := n.cfg.conflist() + ".tmp"
	if err := os.WriteFile(tmp, append(body, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write CNI configuration: %w", err)
	}
	if err := os.Rename(tmp, n.cfg.conflist()); err != nil {
		return fmt.Errorf("cannot write CNI configuration: %w", err)
	}
	return nil
}

// reconcile releases the leases whose sandbox is gone: neither its namespace
// nor the node's end of its link exist. A lease younger than the interval may
// belong to an ADD in progress.
//
// Rules that someone else removed are put back.
func (n *Network) reconcile(ctx context.Context) error {
	st := n.state.Load()
	var errs []error
	if whole, err := st.nat.intact(); err != nil {
		errs = append(errs, err)
	} else if !whole {
		n.tel.Log.WarnContext(ctx, "network rules were changed by someone else; repairing", "table", TableName)
		st.repair.Lock()
		errs = append(errs, st.nat.install(st.pool.prefix, n.cfg.ClusterCIDR, st.pool.leases()))
		st.repair.Unlock()
		n.metrics.repairs.Inc()
	}
	for _, l := range st.pool.leases() {
		if time.Since(l.Created) < n.cfg.Reconcile {
			continue
		}
		if _, err := os.Stat(l.Namespace); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := st.host.LinkByName(l.HostInterface); !errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		n.tel.Log.WarnContext(ctx, "releasing leaked address", "address", l.Address, "container", l.ContainerID, "pod", l.PodName)
		if err := n.del(st, l.Attachment); err != nil {
			errs = append(errs, err)
			continue
		}
		n.metrics.leaked.Inc()
	}
	return errors.Join(errs...)
}

// Leases returns the addresses in use; nil before Ready.
func (n *Network) Leases() []*Lease {
	if st := n.state.Load(); st != nil {
		return st.pool.leases()
	}
	return nil
}

// lock serializes the calls for one attachment and returns the unlocking.
func (n *Network) lock(a Attachment) func() {
	m := &n.locks[maphash.Comparable(n.seed, a)%uint64(len(n.locks))]
	m.Lock()
	return m.Unlock
}

// Down removes the pods' links, the bridge, the nftables table, the leases
// and the CNI configuration. Run must have ended or never started.
func Down(cfg Config) error {
	if !cfg.PodCIDR.IsValid() && cfg.Node == "" {
		cfg.Node = "any"
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	h, err := openHost(cfg.Namespace)
	if err != nil {
		return err
	}
	defer h.close()
	var errs []error
	if bridge, err := h.LinkByName(cfg.Bridge); err == nil {
		links, err := h.LinkList()
		errs = append(errs, err)
		for _, l := range links {
			if l.Attrs().MasterIndex == bridge.Attrs().Index && l.Type() == "veth" {
				errs = append(errs, h.removeLink(l.Attrs().Name))
			}
		}
	}
	errs = append(errs,
		h.removeLink(cfg.Bridge),
		newNAT(h.fd()).remove(),
		os.RemoveAll(filepath.Join(cfg.stateDir(), "leases")),
		removeFile(cfg.conflist()),
	)
	return errors.Join(errs...)
}

func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// listen opens the CNI socket; a stale one of an earlier run is replaced.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot create folder of CNI socket: %w", err)
	}
	if c, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("cannot serve CNI on %q: another instance does; stop it or choose another run directory", path)
	}
	if err := removeFile(path); err != nil {
		return nil, fmt.Errorf("cannot replace stale CNI socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot serve CNI on %q: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot protect CNI socket: %w", err)
	}
	return l, nil
}

// acceptPause keeps a listener in trouble from spinning.
const acceptPause = 100 * time.Millisecond

// accept serves connections until the listener closes and waits for them.
func (n *Network) accept(ctx context.Context, l net.Listener) {
	// What comes above the bound waits in the socket's backlog.
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as no free descriptor: it passes
			n.tel.Log.ErrorContext(ctx, "cannot accept CNI call", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			n.answer(ctx, c)
		})
	}
}

// answer serves one connection: one request, one response.
func (n *Network) answer(ctx context.Context, c net.Conn) {
	const limit, patience = 1 << 20, time.Minute // bytes of a request; for both directions
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	r, err := decodeRequest(c, limit)
	if err != nil {
		n.tel.Log.WarnContext(ctx, "cannot read CNI request", "error", err)
		return
	}
	// An operation that began is finished, also when the process stops.
	if err := json.NewEncoder(c).Encode(n.serve(context.WithoutCancel(ctx), r)); err != nil {
		n.tel.Log.WarnContext(ctx, "cannot answer CNI request", "error", err)
	}
}
