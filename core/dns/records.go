package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// records is the state answers are made of. Objects are kept as they came,
// shared with the rest of the process.
type records struct {
	mu         sync.RWMutex
	services   map[types.NamespacedName]*corev1.Service                                     // guarded by mu
	slices     map[types.NamespacedName]map[types.NamespacedName]*discoveryv1.EndpointSlice // by Service; guarded by mu
	owner      map[types.NamespacedName]types.NamespacedName                                // slice → Service; guarded by mu
	namespaces map[string]bool                                                              // guarded by mu
	byIP       map[netip.Addr]types.NamespacedName                                          // ClusterIPs; guarded by mu
	byEndpoint map[netip.Addr]map[types.NamespacedName]bool                                 // address → slices; guarded by mu
	sawAll     [3]bool                                                                      // services, slices, namespaces; guarded by mu
	synced     chan struct{}                                                                // closed when all were seen
}

func newRecords() *records {
	return &records{
		services:   map[types.NamespacedName]*corev1.Service{},
		slices:     map[types.NamespacedName]map[types.NamespacedName]*discoveryv1.EndpointSlice{},
		owner:      map[types.NamespacedName]types.NamespacedName{},
		namespaces: map[string]bool{},
		byIP:       map[netip.Addr]types.NamespacedName{},
		byEndpoint: map[netip.Addr]map[types.NamespacedName]bool{},
		synced:     make(chan struct{}),
	}
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// saw notes that a kind was seen whole. The caller holds mu.
func (r *records) saw(i int) {
	before := r.sawAll == [3]bool{true, true, true}
	r.sawAll[i] = true
	if !before && r.sawAll == [3]bool{true, true, true} {
		close(r.synced)
	}
}

func (r *records) ready() bool {
	select {
	case <-r.synced:
		return true
	default:
		return false
	}
}

func (r *records) replaceServices(items []*corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.services)
	clear(r.byIP)
	for _, s := range items {
		r.putService(s)
	}
	r.saw(0)
}

func (r *records) applyService(e client.EventType, s *corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := nameOf(s)
	if old := r.services[n]; old != nil {
		for _, ip := range clusterIPs(old) {
			if r.byIP[ip] == n {
				delete(r.byIP, ip)
			}
		}
		delete(r.services, n)
	}
	if e != client.Deleted {
		r.putService(s)
	}
}

func (r *records) putService(s *corev1.Service) {
	n := nameOf(s)
	r.services[n] = s
	for _, ip := range clusterIPs(s) {
		r.byIP[ip] = n
	}
}

func (r *records) replaceSlices(items []*discoveryv1.EndpointSlice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.slices)
	clear(r.owner)
	clear(r.byEndpoint)
	for _, s := range items {
		r.putSlice(s)
	}
	r.saw(1)
}

func (r *records) applySlice(e client.EventType, s *discoveryv1.EndpointSlice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := nameOf(s)
	if svc, ok := r.owner[n]; ok {
		r.indexEndpoints(r.slices[svc][n], false)
		delete(r.owner, n)
		if delete(r.slices[svc], n); len(r.slices[svc]) == 0 {
			delete(r.slices, svc)
		}
	}
	if e != client.Deleted {
		r.putSlice(s)
	}
}

func (r *records) putSlice(s *discoveryv1.EndpointSlice) {
	svc := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	if svc.Name == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return
	}
	n := nameOf(s)
	if r.slices[svc] == nil {
		r.slices[svc] = map[types.NamespacedName]*discoveryv1.EndpointSlice{}
	}
	r.slices[svc][n], r.owner[n] = s, svc
	r.indexEndpoints(s, true)
}

// indexEndpoints keeps byEndpoint. The caller holds mu.
func (r *records) indexEndpoints(s *discoveryv1.EndpointSlice, add bool) {
	n := nameOf(s)
	for _, e := range s.Endpoints {
		for _, text := range e.Addresses {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			ip = ip.Unmap()
			switch {
			case add && r.byEndpoint[ip] == nil:
				r.byEndpoint[ip] = map[types.NamespacedName]bool{n: true}
			case add:
				r.byEndpoint[ip][n] = true
			default:
				if delete(r.byEndpoint[ip], n); len(r.byEndpoint[ip]) == 0 {
					delete(r.byEndpoint, ip)
				}
			}
		}
	}
}

func (r *records) replaceNamespaces(items []*corev1.Namespace) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.namespaces)
	for _, n := range items {
		r.namespaces[n.Name] = true
	}
	r.saw(2)
}

func (r *records) applyNamespace(e client.EventType, n *corev1.Namespace) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e == client.Deleted {
		delete(r.namespaces, n.Name)
	} else {
		r.namespaces[n.Name] = true
	}
}

func (r *records) namespace(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.namespaces[name]
}

// lookup returns a Service and, if it is headless or an endpoint is asked
// for, its ready endpoints.
func (r *records) lookup(name types.NamespacedName, endpoints bool) (*corev1.Service, []endpoint) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	svc := r.services[name]
	if svc == nil || !endpoints && !headless(svc) {
		return svc, nil
	}
	var list []endpoint
	for _, s := range r.slices[name] {
		list = appendEndpoints(list, s)
	}
	slices.SortFunc(list, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	return svc, list
}

// reverse names what has an address: a Service by its ClusterIP, else an
// endpoint of a headless Service.
func (r *records) reverse(ip netip.Addr) (svc types.NamespacedName, host string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n, ok := r.byIP[ip]; ok {
		return n, "", true
	}
	var found []string
	for sliceName := range r.byEndpoint[ip] {
		n := r.owner[sliceName]
		if s := r.services[n]; s == nil || !headless(s) {
			continue
		}
		for _, e := range appendEndpoints(nil, r.slices[n][sliceName]) {
			if e.addr == ip {
				found = append(found, n.Namespace+"/"+n.Name+"/"+e.host)
			}
		}
	}
	if len(found) == 0 {
		return svc, "", false
	}
	slices.Sort(found) // the same answer each time
	parts := strings.SplitN(found[0], "/", 3)
	return types.NamespacedName{Namespace: parts[0], Name: parts[1]}, parts[2], true
}

// endpoint is one ready address of a Service.
type endpoint struct {
	addr  netip.Addr
	host  string // the name below the Service's
	ports []discoveryv1.EndpointPort
}

func appendEndpoints(list []endpoint, s *discoveryv1.EndpointSlice) []endpoint {
	for _, e := range s.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, text := range e.Addresses {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			ip = ip.Unmap()
			host := strings.ToLower(dashed(ip))
			if e.Hostname != nil && *e.Hostname != "" {
				host = strings.ToLower(*e.Hostname)
			}
			list = append(list, endpoint{ip, host, s.Ports})
		}
	}
	return list
}

func headless(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone && s.Spec.Type != corev1.ServiceTypeExternalName
}

// clusterIPs are a Service's addresses; none when headless or unallocated.
func clusterIPs(s *corev1.Service) []netip.Addr {
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	var list []netip.Addr
	for _, t := range texts {
		if ip, err := netip.ParseAddr(t); err == nil {
			list = append(list, ip.Unmap())
		}
	}
	return list
}

// dashed is an address as a DNS label.
func dashed(ip netip.Addr) string {
	if ip.Is4() {
		return strings.ReplaceAll(ip.String(), ".", "-")
	}
	return strings.ReplaceAll(ip.String(), ":", "-")
}

// undashed reads a dashed address.
func undashed(label string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil && ip.Is4() {
		return ip, true
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return ip, err == nil && ip.Is6()
}
