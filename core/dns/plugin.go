package dns

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"        // CoreDNS plugins register themselves
	_ "github.com/coredns/coredns/plugin/cache"       //
	_ "github.com/coredns/coredns/plugin/errors"      //
	_ "github.com/coredns/coredns/plugin/forward"     //
	_ "github.com/coredns/coredns/plugin/hosts"       //
	_ "github.com/coredns/coredns/plugin/loadbalance" //
	_ "github.com/coredns/coredns/plugin/log"         //
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/pkg/rcode"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	_ "github.com/coredns/coredns/plugin/rewrite" //
	"github.com/coredns/coredns/request"
	mdns "github.com/miekg/dns"
)

// directives are what a Corefile may have, in order of execution.
func directives() []string {
	return []string{"bind", "reload", "ready", "health", metricsDirective, "errors", "log", "loop", "cache", "rewrite", "loadbalance", "hosts", "binnacle", "kubernetes", "forward"}
}

// hosted directives are accepted without arguments' effect: the process does
// what they ask for.
func hosted() []string { return []string{"reload", "ready", "health", "loop"} }

// registry connects the setup functions, which CoreDNS keeps once for the
// process, with the Server whose Corefile is set up. CoreDNS offers no other
// way to hand a plugin its dependencies.
var registry struct {
	once    sync.Once
	mu      sync.Mutex // also serializes all starts and reloads of CoreDNS
	servers map[string]*Server
	err     error
}

// register makes the plugins known and gives the server a file name.
func register(s *Server) (string, error) {
	registry.once.Do(func() {
		registry.servers = map[string]*Server{}
		caddy.Quiet, dnsserver.Quiet = true, true
		registry.err = dnsserver.SetDirectives(directives())
		plugin.Register("binnacle", setupZone)
		plugin.Register("kubernetes", setupZone)
		plugin.Register(metricsDirective, setupMetrics)
		for _, d := range hosted() {
			plugin.Register(d, func(*caddy.Controller) error { return nil })
		}
	})
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for i := 0; ; i++ {
		name := "Corefile-" + strconv.Itoa(i)
		if registry.servers[name] == nil {
			registry.servers[name] = s
			return name, registry.err
		}
	}
}

func unregister(file string) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	delete(registry.servers, file)
}

// setupZone reads the binnacle directive. It runs with registry.mu held.
func setupZone(c *caddy.Controller) error {
	s := registry.servers[filepath.Base(c.File())]
	if s == nil {
		return plugin.Error("binnacle", c.Errf("no server for Corefile %q", c.File()))
	}
	z := &zone{records: s.records, ttl: 5, self: s.cfg.Address.Addr(), lookup: upstream.New()}
	for i := 0; c.Next(); i++ {
		if i > 0 {
			return plugin.Error("binnacle", plugin.ErrOnce)
		}
		z.zones = plugin.OriginsFromArgsOrServerBlock(c.RemainingArgs(), c.ServerBlockKeys)
		for c.NextBlock() {
			if err := z.option(c); err != nil {
				return plugin.Error("binnacle", err)
			}
		}
	}
	z.domain = mdns.Fqdn(s.cfg.Domain)
	for _, name := range z.zones {
		if !isReverse(name) {
			z.domain = name
			break
		}
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		z.next = next
		return z
	})
	return nil
}

func (z *zone) option(c *caddy.Controller) error {
	args := func() []string { return c.RemainingArgs() }
	switch option := c.Val(); option {
	case "ttl":
		a := args()
		if len(a) != 1 {
			return c.ArgErr()
		}
		n, err := strconv.Atoi(a[0])
		if err != nil || n < 0 || n > 3600 {
			return c.Errf("ttl must be in range [0, 3600]: %s", a[0])
		}
		z.ttl = uint32(n)
	case "pods":
		a := args()
		if len(a) != 1 {
			return c.ArgErr()
		}
		switch a[0] {
		case "insecure":
			z.pods = true
		case "disabled":
			z.pods = false
		default:
			return c.Errf("pods %s is not supported, use insecure or disabled", a[0])
		}
	case "fallthrough":
		z.fall.SetZonesFromArgs(args())
	default:
		return c.Errf("unknown option %q", option)
	}
	return nil
}

func isReverse(name string) bool {
	return mdns.IsSubDomain("in-addr.arpa.", name) || mdns.IsSubDomain("ip6.arpa.", name)
}

// metricsDirective stands for prometheus in the adapted Corefile, whose own
// plugin would open a listener.
const metricsDirective = "binnacle_metrics"

// setupMetrics adds the counting of requests.
func setupMetrics(c *caddy.Controller) error {
	m := &requestMetrics{}
	for c.Next() {
		if len(c.RemainingArgs()) > 0 {
			return plugin.Error(metricsDirective, c.ArgErr())
		}
	}
	config := dnsserver.GetConfig(c)
	m.zone = config.Zone
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		m.next = next
		return m
	})
	return nil
}

// requestMetrics counts requests under CoreDNS' metric names.
type requestMetrics struct {
	next plugin.Handler
	zone string
}

// Name implements plugin.Handler.
func (m *requestMetrics) Name() string { return metricsDirective }

// ServeDNS implements plugin.Handler.
func (m *requestMetrics) ServeDNS(ctx context.Context, w mdns.ResponseWriter, r *mdns.Msg) (int, error) {
	start := time.Now()
	state := request.Request{W: w, Req: r}
	rec := dnstest.NewRecorder(w)
	status, err := plugin.NextOrFailure(m.Name(), m.next, ctx, rec, r)
	rc := rec.Rcode
	if !plugin.ClientWrite(status) {
		rc = status
	}
	server := ""
	if s, ok := ctx.Value(dnsserver.Key{}).(*dnsserver.Server); ok {
		server = s.Addr
	}
	vars.Report(server, state, m.zone, "", rcode.ToString(rc), "", rec.Len, start)
	return status, err
}
