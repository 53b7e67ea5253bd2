package dns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"binnacle.io/core/client"
	"binnacle.io/core/network/watch"
	"binnacle.io/core/telemetry"
)

// Server is the cluster's DNS server on this node.
type Server struct {
	cfg     Config
	client  client.Client
	events  EventRecorder
	tel     *telemetry.Component
	metrics *metrics
	records *records

	serving  atomic.Bool
	corefile chan *corev1.ConfigMap // the newest wanted; capacity 1
	ready    chan struct{}
}

// New checks the configuration and touches nothing yet. events may be nil.
func New(cfg Config, c client.Client, events EventRecorder, tel *telemetry.Component) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, client: c, events: events, tel: tel, metrics: newMetrics(tel.Registry),
		records: newRecords(), corefile: make(chan *corev1.ConfigMap, 1), ready: make(chan struct{}),
	}, nil
}

// Gatherer returns CoreDNS' metrics and this package's; the component's
// registry has them all.
func (s *Server) Gatherer() prometheus.Gatherer { return s.tel.Registry }

// ReadyChannel is closed once queries for the cluster's names are answered.
func (s *Server) ReadyChannel() <-chan struct{} { return s.ready }

// Ready returns why queries are not answered, or nil.
func (s *Server) Ready() error {
	switch {
	case !s.serving.Load():
		return errors.New("DNS is not listening yet")
	case !s.records.ready():
		return errors.New("DNS does not know the Services yet")
	}
	return nil
}

// Run serves until ctx ends. The interface with the address stays: pods of a
// node that restarts find the address again.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Interface != "-" {
		if err := ensureInterface(s.cfg.Interface, s.cfg.Address.Addr()); err != nil {
			return err
		}
	}
	file, err := register(s)
	if err != nil {
		return fmt.Errorf("cannot prepare CoreDNS: %w", err)
	}
	defer unregister(file)

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	all := client.ReadOptions{}
	wg.Go(func() {
		watch.Follow(ctx, s.client, all, s.tel, watch.Sink[*corev1.Service]{Replace: s.records.replaceServices, Apply: s.records.applyService})
	})
	wg.Go(func() {
		watch.Follow(ctx, s.client, all, s.tel, watch.Sink[*discoveryv1.EndpointSlice]{Replace: s.records.replaceSlices, Apply: s.records.applySlice})
	})
	wg.Go(func() {
		watch.Follow(ctx, s.client, all, s.tel, watch.Sink[*corev1.Namespace]{Replace: s.records.replaceNamespaces, Apply: s.records.applyNamespace})
	})
	wg.Go(func() {
		opts := client.ReadOptions{Namespace: ConfigMapNamespace, Fields: fields.OneTermEqualSelector("metadata.name", ConfigMapName)}
		watch.Follow(ctx, s.client, opts, s.tel, watch.Sink[*corev1.ConfigMap]{
			Replace: func(items []*corev1.ConfigMap) { s.configMaps(ctx, items) },
			Apply: func(e client.EventType, cm *corev1.ConfigMap) {
				if e != client.Deleted { // the last one goes on
					s.want(cm)
				}
			},
		})
	})
	err = s.serve(ctx, file)
	cancel()
	wg.Wait()
	return err
}

// configMaps takes the present ConfigMap or creates the default one.
func (s *Server) configMaps(ctx context.Context, items []*corev1.ConfigMap) {
	if len(items) > 0 {
		s.want(items[0])
		return
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: ConfigMapNamespace, Name: ConfigMapName},
		Data:       map[string]string{CorefileKey: DefaultCorefile(s.cfg.Domain, s.cfg.ResolvConf)},
	}
	if _, err := client.Create(ctx, s.client, cm); err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
		s.tel.Log.WarnContext(ctx, "cannot create the Corefile's ConfigMap; serving the default", "error", err)
	}
	s.want(cm)
}

// want hands the newest ConfigMap to serve, replacing one not yet taken. Only
// the watch's goroutine calls it.
func (s *Server) want(cm *corev1.ConfigMap) {
	select {
	case <-s.corefile:
	default:
	}
	s.corefile <- cm
}

// serve runs CoreDNS, restarting it in place when the Corefile changes.
func (s *Server) serve(ctx context.Context, file string) error {
	var inst *caddy.Instance
	defer func() {
		if inst != nil {
			s.stop(inst)
		}
	}()
	var loaded string
	synced := s.records.synced
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-synced:
			synced = nil
		case cm := <-s.corefile:
			text := cm.Data[CorefileKey]
			if inst != nil && text == loaded {
				continue
			}
			next, err := s.load(ctx, inst, file, text)
			if err != nil {
				s.complain(ctx, cm, inst != nil, err)
				if inst != nil {
					continue
				}
				// Without any, the default serves.
				if next, err = s.load(ctx, nil, file, DefaultCorefile(s.cfg.Domain, s.cfg.ResolvConf)); err != nil {
					return fmt.Errorf("cannot serve DNS on %s: %w", s.cfg.Address, err)
				}
			} else {
				loaded = text
				s.metrics.reloads.WithLabelValues("success").Inc()
			}
			inst = next
			s.serving.Store(true)
			s.tel.Log.InfoContext(ctx, "serving DNS", "address", s.cfg.Address, "domain", s.cfg.Domain)
		}
		if inst != nil && synced == nil {
			select {
			case <-s.ready:
			default:
				close(s.ready)
			}
		}
	}
}

// load starts CoreDNS with a Corefile, or restarts inst with it. After an
// error inst goes on as it was.
func (s *Server) load(ctx context.Context, inst *caddy.Instance, file, text string) (*caddy.Instance, error) {
	adapted, notes, err := adapt(text, s.cfg.Address)
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		s.tel.Log.WarnContext(ctx, "Corefile adapted", "note", n)
	}
	input := caddy.CaddyfileInput{Filepath: file, Contents: []byte(adapted), ServerTypeName: "dns"}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if inst == nil {
		inst, err = caddy.Start(input)
	} else {
		inst, err = inst.Restart(input)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load Corefile: %w", err)
	}
	return inst, nil
}

// complain makes a Corefile that does not load known.
func (s *Server) complain(ctx context.Context, cm *corev1.ConfigMap, kept bool, err error) {
	s.metrics.reloads.WithLabelValues("error").Inc()
	serving := "the default"
	if kept {
		serving = "the previous one"
	}
	s.tel.Log.ErrorContext(ctx, "cannot use Corefile", "serving", serving, "error", err)
	if s.events != nil {
		s.events.EventRef(corev1.ObjectReference{Kind: "ConfigMap", APIVersion: "v1", Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID, ResourceVersion: cm.ResourceVersion},
			corev1.EventTypeWarning, "BadCorefile", "%v; %s serves", err, serving)
	}
}

func (s *Server) stop(inst *caddy.Instance) {
	s.serving.Store(false)
	registry.mu.Lock()
	err := errors.Join(errors.Join(inst.ShutdownCallbacks()...), inst.Stop())
	registry.mu.Unlock()
	done := make(chan struct{})
	go func() { inst.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		err = errors.Join(err, errors.New("CoreDNS did not stop in 10 s"))
	}
	if err != nil {
		s.tel.Log.Warn("cannot stop DNS cleanly", "error", err)
	}
}
