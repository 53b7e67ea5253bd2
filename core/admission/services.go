package admission

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

// ServicesConfig says what Services may be given.
type ServicesConfig struct {
	// CIDRs are the ranges of cluster addresses, the first one's family being
	// the default; default 10.96.0.0/12. At most one a family.
	CIDRs []netip.Prefix
	// FirstNodePort and LastNodePort bound node ports; default 30000-32767.
	FirstNodePort, LastNodePort int32
	// Draw returns a number in [0, n); default random.
	Draw func(n uint64) uint64
}

func (cfg *ServicesConfig) complete() error {
	if len(cfg.CIDRs) == 0 {
		cfg.CIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	}
	if len(cfg.CIDRs) > 2 || len(cfg.CIDRs) == 2 && cfg.CIDRs[0].Addr().Is4() == cfg.CIDRs[1].Addr().Is4() {
		return fmt.Errorf("cannot allocate Service addresses from %v: give one range, or one of each family", cfg.CIDRs)
	}
	for i, p := range cfg.CIDRs {
		if !p.IsValid() || p.Addr().BitLen()-p.Bits() > 20 || p.Addr().BitLen()-p.Bits() < 2 {
			return fmt.Errorf("cannot allocate Service addresses from %v: a range holds between 4 and 2^20 addresses", p)
		}
		cfg.CIDRs[i] = p.Masked()
	}
	if cfg.FirstNodePort == 0 && cfg.LastNodePort == 0 {
		cfg.FirstNodePort, cfg.LastNodePort = 30000, 32767
	}
	if cfg.FirstNodePort < 1 || cfg.LastNodePort > 65535 || cfg.FirstNodePort > cfg.LastNodePort {
		return fmt.Errorf("cannot allocate node ports from %d-%d", cfg.FirstNodePort, cfg.LastNodePort)
	}
	if cfg.Draw == nil {
		cfg.Draw = func(n uint64) uint64 { return rand.Uint64N(n) }
	}
	return nil
}

// Services gives Services their cluster addresses and node ports. What is in
// use is read from the Services themselves; what has been given out and not yet
// been stored is reserved in memory until the write's outcome is known. So
// nothing leaks and nothing needs repair, but only one process may allocate.
type Services struct {
	cfg ServicesConfig
	c   client.Client

	mu    sync.Mutex // held while the Services are read and a choice is made
	addrs map[netip.Addr]struct{}
	ports map[int32]struct{}

	allocated, failed *prometheus.CounterVec
}

// NewServices returns the plugin. tel is the API server's component.
func NewServices(cfg ServicesConfig, c client.Client, tel *telemetry.Component) (*Services, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	p := &Services{cfg: cfg, c: c, addrs: map[netip.Addr]struct{}{}, ports: map[int32]struct{}{}}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"pool", "scope"})
	}
	p.allocated = counter("binnacle_service_allocations_total",
		"Cluster addresses and node ports given to Services, by pool (clusterip, nodeport) and scope (static: asked for, dynamic: chosen).")
	p.failed = counter("binnacle_service_allocation_errors_total",
		"Cluster addresses and node ports that could not be given to Services, by pool and scope.")
	for _, m := range []prometheus.Collector{p.allocated, p.failed} {
		if err := tel.Registry.Register(m); err != nil {
			return nil, fmt.Errorf("cannot register metrics of Service allocation: %w", err)
		}
	}
	return p, nil
}

func (*Services) Name() string { return "ServiceAllocation" }

func (*Services) Handles(op Operation, r client.Resource, sub string) bool {
	return r == serviceResource && sub == "" && (op == Create || op == Update)
}

// Admit carries over what the client left out, drops what the type of the
// Service no longer has, fills in families, and allocates.
func (p *Services) Admit(ctx context.Context, a *Attributes) error {
	svc, ok := a.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	old, _ := a.Old.(*corev1.Service)
	normalizeClusterIPs(svc, old)
	if old != nil {
		keepAllocated(svc, old)
		dropUnneeded(svc, old)
	}
	if errs := kind.ValidateServiceAddresses(svc); len(errs) > 0 {
		return invalidService(svc, errs)
	}
	if errs := p.families(svc, old); len(errs) > 0 {
		return invalidService(svc, errs)
	}
	if needsClusterIP(svc) && svc.Spec.InternalTrafficPolicy == nil {
		policy := corev1.ServiceInternalTrafficPolicyCluster
		svc.Spec.InternalTrafficPolicy = &policy
	}
	return p.allocate(ctx, a, svc, old)
}

func invalidService(svc *corev1.Service, errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, svc.Name, errs)
}

// session is one Service's allocation: what others use, and what it takes.
type session struct {
	p        *Services
	addrUsed map[netip.Addr]struct{}
	portUsed map[int32]struct{}
	addrs    []netip.Addr
	ports    []int32
}

func (p *Services) allocate(ctx context.Context, a *Attributes, svc, old *corev1.Service) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, _, err := client.ListOf[*corev1.Service](ctx, p.c, client.ReadOptions{FromCache: true})
	if err != nil {
		return fmt.Errorf("cannot read the Services in use: %w", err)
	}
	s := &session{p: p, addrUsed: map[netip.Addr]struct{}{}, portUsed: map[int32]struct{}{}}
	for _, have := range all {
		for _, ip := range clusterIPs(have) {
			s.addrUsed[ip] = struct{}{}
		}
		for _, port := range nodePorts(have) {
			s.portUsed[port] = struct{}{}
		}
	}
	if err := s.take(svc, old); err != nil {
		return err
	}
	if a.DryRun {
		return nil
	}
	for _, ip := range s.addrs {
		p.addrs[ip] = struct{}{}
	}
	for _, port := range s.ports {
		p.ports[port] = struct{}{}
	}
	// Once the write is stored the Services themselves show it.
	a.OnDone(func(bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, ip := range s.addrs {
			delete(p.addrs, ip)
		}
		for _, port := range s.ports {
			delete(p.ports, port)
		}
	})
	return nil
}

func (s *session) take(svc, old *corev1.Service) error {
	if needsClusterIP(svc) {
		if err := s.takeAddresses(svc, old); err != nil {
			return err
		}
	}
	if needsNodePort(svc) {
		if err := s.takeNodePorts(svc, old); err != nil {
			return err
		}
	}
	if needsHealthCheckPort(svc) {
		return s.takeHealthCheckPort(svc, old)
	}
	return nil
}

func (s *session) addrFree(ip netip.Addr) bool {
	_, used := s.addrUsed[ip]
	_, reserved := s.p.addrs[ip]
	return !used && !reserved
}

func (s *session) portFree(port int32) bool {
	_, used := s.portUsed[port]
	_, reserved := s.p.ports[port]
	return !used && !reserved
}

var (
	errAllocated     = errors.New("provided IP is already allocated")
	errPortAllocated = errors.New("provided port is already allocated")
	errFull          = errors.New("range is full")
)

// takeAddresses gives svc an address of each of its families. Addresses it had
// are its own; others that it names must be free.
func (s *session) takeAddresses(svc, old *corev1.Service) error {
	if headless(svc) {
		svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	own := map[netip.Addr]struct{}{}
	if old != nil {
		for _, ip := range clusterIPs(old) {
			own[ip] = struct{}{}
		}
	}
	var given []string
	for i, family := range svc.Spec.IPFamilies {
		cidr, ok := s.p.cidr(family)
		if !ok {
			break
		}
		if i < len(svc.Spec.ClusterIPs) && svc.Spec.ClusterIPs[i] != "" {
			asked := svc.Spec.ClusterIPs[i]
			ip, err := netip.ParseAddr(asked)
			if err != nil {
				return nil // validation says it better
			}
			if _, mine := own[ip]; !mine {
				if err := s.takeAddress(cidr, ip); err != nil {
					return invalidService(svc, field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), svc.Spec.ClusterIPs,
						fmt.Sprintf("failed to allocate IP %s: %v", asked, err))})
				}
			}
			given = append(given, ip.String())
			continue
		}
		ip, err := s.drawAddress(cidr)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
		}
		given = append(given, ip.String())
	}
	if len(given) == 0 {
		return nil
	}
	svc.Spec.ClusterIPs, svc.Spec.ClusterIP = given, given[0]
	return nil
}

func (s *session) takeAddress(cidr netip.Prefix, ip netip.Addr) error {
	err := errAllocated
	if !usable(cidr, ip) {
		err = fmt.Errorf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, cidr)
	} else if s.addrFree(ip) {
		s.addrs = append(s.addrs, ip)
		s.p.allocated.WithLabelValues("clusterip", "static").Inc()
		return nil
	}
	s.p.failed.WithLabelValues("clusterip", "static").Inc()
	return err
}

func (s *session) drawAddress(cidr netip.Prefix) (netip.Addr, error) {
	first, size := firstUsable(cidr)
	at, ok := draw(size, staticBand(size, 16, 16, 256), s.p.cfg.Draw, func(i uint64) bool { return s.addrFree(offset(first, i)) })
	if !ok {
		s.p.failed.WithLabelValues("clusterip", "dynamic").Inc()
		return netip.Addr{}, errFull
	}
	ip := offset(first, at)
	s.addrs = append(s.addrs, ip)
	s.p.allocated.WithLabelValues("clusterip", "dynamic").Inc()
	return ip, nil
}

// takeNodePorts gives every port of svc a node port. One number may serve
// several protocols of one Service.
func (s *session) takeNodePorts(svc, old *corev1.Service) error {
	own := map[int32]struct{}{}
	if old != nil {
		for _, port := range nodePorts(old) {
			own[port] = struct{}{}
		}
	}
	type use struct {
		protocol corev1.Protocol
		port     int32
	}
	mine := map[use]bool{}    // protocol and node port
	taken := map[int32]bool{} // node ports of this Service by now
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		if port.NodePort == 0 {
			continue
		}
		if _, had := own[port.NodePort]; !had && !taken[port.NodePort] {
			if err := s.takePort(port.NodePort); err != nil {
				return invalidService(svc, field.ErrorList{
					field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port.NodePort, err.Error())})
			}
		}
		mine[use{port.Protocol, port.NodePort}], taken[port.NodePort] = true, true
	}
	if !allocatesNodePorts(svc) {
		return nil
	}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		if port.NodePort != 0 {
			continue
		}
		// The same service port over another protocol shares its number.
		for j := range svc.Spec.Ports {
			o := &svc.Spec.Ports[j]
			if o.Port == port.Port && o.NodePort != 0 && !mine[use{port.Protocol, o.NodePort}] {
				port.NodePort = o.NodePort
				break
			}
		}
		if port.NodePort == 0 {
			n, err := s.drawPort()
			if err != nil {
				return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
			}
			port.NodePort = n
		}
		mine[use{port.Protocol, port.NodePort}] = true
	}
	return nil
}

func (s *session) takePort(port int32) error {
	cfg := &s.p.cfg
	err := errPortAllocated
	if port < cfg.FirstNodePort || port > cfg.LastNodePort {
		err = fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", cfg.FirstNodePort, cfg.LastNodePort)
	} else if s.portFree(port) {
		s.ports = append(s.ports, port)
		s.portUsed[port] = struct{}{}
		s.p.allocated.WithLabelValues("nodeport", "static").Inc()
		return nil
	}
	s.p.failed.WithLabelValues("nodeport", "static").Inc()
	return err
}

func (s *session) drawPort() (int32, error) {
	cfg := &s.p.cfg
	size := uint64(cfg.LastNodePort-cfg.FirstNodePort) + 1
	at, ok := draw(size, staticBand(size, 16, 32, 128), cfg.Draw, func(i uint64) bool { return s.portFree(cfg.FirstNodePort + int32(i)) })
	if !ok {
		s.p.failed.WithLabelValues("nodeport", "dynamic").Inc()
		return 0, errFull
	}
	port := cfg.FirstNodePort + int32(at)
	s.ports = append(s.ports, port)
	s.portUsed[port] = struct{}{}
	s.p.allocated.WithLabelValues("nodeport", "dynamic").Inc()
	return port, nil
}

func (s *session) takeHealthCheckPort(svc, old *corev1.Service) error {
	asked := svc.Spec.HealthCheckNodePort
	if asked == 0 {
		n, err := s.drawPort()
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort: %w", err))
		}
		svc.Spec.HealthCheckNodePort = n
		return nil
	}
	if old != nil && old.Spec.HealthCheckNodePort == asked {
		return nil
	}
	if err := s.takePort(asked); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %d: %w", asked, err))
	}
	return nil
}
