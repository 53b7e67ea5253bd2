package metrics

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// The annotations that ask for scraping, on pods and services.
const (
	scrapeAnnotation = "prometheus.io/scrape"
	portAnnotation   = "prometheus.io/port"
	pathAnnotation   = "prometheus.io/path"
	schemeAnnotation = "prometheus.io/scheme"
)

// annotated discovers annotated pods and services. It keeps no copies: an
// event makes it read the client's cache again.
type annotated struct {
	client client.Client
	tel    *telemetry.Component

	mu      sync.Mutex
	changed map[chan struct{}]bool // one token channel per discoverer, guarded by mu
}

func newAnnotated(c client.Client, tel *telemetry.Component) *annotated {
	return &annotated{client: c, tel: tel, changed: map[chan struct{}]bool{}}
}

// run watches what targets depend on, until ctx ends.
func (a *annotated) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range []client.Resource{
		{Resource: "pods"}, {Resource: "services"}, {Group: "discovery.k8s.io", Resource: "endpointslices"},
	} {
		wg.Go(func() {
			for ctx.Err() == nil {
				a.watch(ctx, r)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second + rand.N(time.Second)):
				}
			}
		})
	}
	wg.Wait()
}

func (a *annotated) watch(ctx context.Context, r client.Resource) {
	w, err := a.client.Watch(ctx, r, "", client.ReadOptions{FromCache: true})
	if err != nil {
		return // tried again; kube-state's watch of the same kind logs it
	}
	defer w.Close()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return
		}
		if ev.Type != client.Bookmark && !concerns(ev.Object) {
			continue
		}
		a.signal()
	}
}

// concerns tells whether a change may change targets. A pod or service whose
// annotation was taken away is missed here and found by the slow refresh.
func concerns(o client.Object) bool {
	switch o.(type) {
	case *corev1.Pod, *corev1.Service:
		return o.GetAnnotations()[scrapeAnnotation] == "true"
	}
	return true
}

func (a *annotated) signal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ch := range a.changed {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (a *annotated) pods() discovery.Config {
	return sdConfig{name: "binnacle_pods", a: a, find: a.podTargets}
}

func (a *annotated) services() discovery.Config {
	return sdConfig{name: "binnacle_services", a: a, find: a.serviceTargets}
}

// sdConfig makes a discovery.Config and Discoverer of a function.
type sdConfig struct {
	name string
	a    *annotated
	find func(context.Context) ([]model.LabelSet, error)
}

func (c sdConfig) Name() string { return c.name }

func (c sdConfig) NewDiscoverer(discovery.DiscovererOptions) (discovery.Discoverer, error) {
	return c, nil
}

func (c sdConfig) NewDiscovererMetrics(prometheus.Registerer, discovery.RefreshMetricsInstantiator) discovery.DiscovererMetrics {
	return noMetrics{}
}

type noMetrics struct{}

func (noMetrics) Register() error { return nil }
func (noMetrics) Unregister()     {}

// Run sends the present targets on each change, and every minute.
func (c sdConfig) Run(ctx context.Context, up chan<- []*targetgroup.Group) {
	ch := make(chan struct{}, 1)
	c.a.mu.Lock()
	c.a.changed[ch] = true
	c.a.mu.Unlock()
	defer func() {
		c.a.mu.Lock()
		delete(c.a.changed, ch)
		c.a.mu.Unlock()
	}()
	refresh := time.NewTicker(time.Minute)
	defer refresh.Stop()
	for {
		targets, err := c.find(ctx)
		if err != nil && ctx.Err() == nil {
			c.a.tel.Log.Warn("cannot find scrape targets", "discovery", c.name, "err", err)
		}
		if err == nil {
			select {
			case <-ctx.Done():
				return
			case up <- []*targetgroup.Group{{Source: c.name, Targets: targets}}:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
		case <-ch:
			select { // let a roll-out's events come together
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
}

func (a *annotated) podTargets(ctx context.Context) ([]model.LabelSet, error) {
	pods, _, err := client.ListOf[*corev1.Pod](ctx, a.client, client.ReadOptions{FromCache: true})
	if err != nil {
		return nil, err
	}
	var out []model.LabelSet
	for _, p := range pods {
		out = append(out, podTargets(p)...)
	}
	return out, nil
}

// podTargets are one pod's: the annotated port, else every declared TCP port. A
// pod on no node runs nowhere, whatever its status says.
func podTargets(p *corev1.Pod) []model.LabelSet {
	if p.Spec.NodeName == "" || p.Annotations[scrapeAnnotation] != "true" || p.Status.PodIP == "" || p.Status.Phase != corev1.PodRunning {
		return nil
	}
	ports := []string{p.Annotations[portAnnotation]}
	if ports[0] == "" {
		ports = nil
		for _, c := range p.Spec.Containers {
			for _, port := range c.Ports {
				if port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
					ports = append(ports, strconv.Itoa(int(port.ContainerPort)))
				}
			}
		}
	}
	var out []model.LabelSet
	for _, port := range ports {
		l := targetSet(p.Labels, p.Annotations, net.JoinHostPort(p.Status.PodIP, port))
		l["namespace"], l["pod"], l["node"] = model.LabelValue(p.Namespace), model.LabelValue(p.Name), model.LabelValue(p.Spec.NodeName)
		out = append(out, l)
	}
	return out
}

func (a *annotated) serviceTargets(ctx context.Context) ([]model.LabelSet, error) {
	services, _, err := client.ListOf[*corev1.Service](ctx, a.client, client.ReadOptions{FromCache: true})
	if err != nil {
		return nil, err
	}
	wanted := map[client.Key]*corev1.Service{}
	for _, s := range services {
		if s.Annotations[scrapeAnnotation] == "true" {
			wanted[client.KeyOf(s)] = s
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	slices, _, err := client.ListOf[*discoveryv1.EndpointSlice](ctx, a.client, client.ReadOptions{FromCache: true})
	if err != nil {
		return nil, err
	}
	var out []model.LabelSet
	for _, s := range slices {
		svc := wanted[client.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}]
		if svc != nil {
			out = append(out, sliceTargets(svc, s)...)
		}
	}
	return out, nil
}

// sliceTargets are a service's endpoints: on the annotated port, else on
// every TCP port of the slice.
func sliceTargets(svc *corev1.Service, s *discoveryv1.EndpointSlice) []model.LabelSet {
	var ports []string
	if p := svc.Annotations[portAnnotation]; p != "" {
		ports = []string{p}
	} else {
		for _, p := range s.Ports {
			if p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) {
				ports = append(ports, strconv.Itoa(int(*p.Port)))
			}
		}
	}
	var out []model.LabelSet
	for _, ep := range s.Endpoints {
		if len(ep.Addresses) == 0 {
			continue
		}
		for _, port := range ports {
			l := targetSet(svc.Labels, svc.Annotations, net.JoinHostPort(ep.Addresses[0], port))
			l["namespace"], l["service"] = model.LabelValue(svc.Namespace), model.LabelValue(svc.Name)
			if r := ep.TargetRef; r != nil && r.Kind == "Pod" {
				l["pod"] = model.LabelValue(r.Name)
			}
			if ep.NodeName != nil {
				l["node"] = model.LabelValue(*ep.NodeName)
			}
			out = append(out, l)
		}
	}
	return out
}

// targetSet holds the object's labels and where to scrape.
func targetSet(labels, annotations map[string]string, address string) model.LabelSet {
	l := model.LabelSet{}
	for k, v := range labels {
		name := strings.Map(func(r rune) rune {
			if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '_'
		}, k)
		// A label may not begin with a digit, nor pose as ours.
		if name == "job" || name == "instance" || strings.HasPrefix(name, "__") || name[0] >= '0' && name[0] <= '9' {
			continue
		}
		l[model.LabelName(name)] = model.LabelValue(v)
	}
	l[model.AddressLabel] = model.LabelValue(address)
	if p := annotations[pathAnnotation]; p != "" {
		l[model.MetricsPathLabel] = model.LabelValue(p)
	}
	if s := annotations[schemeAnnotation]; s == "http" || s == "https" {
		l[model.SchemeLabel] = model.LabelValue(s)
	}
	return l
}
