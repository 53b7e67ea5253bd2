package kube

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"binnacle.io/core/client"
	"binnacle.io/core/events"
	"binnacle.io/core/network/watch"
	"binnacle.io/core/telemetry"
)

// Where the configuration is.
const (
	ConfigKey  = "alertmanager.yaml"
	RulesLabel = "binnacle.io/rules" // "true" on ConfigMaps with rule files
)

// Config is what users may choose. The zero value of a field means its default.
type Config struct {
	Namespace string // default kube-system
	Secret    string // default binnacle-alerting
}

// Target is what is configured: alerting.Alerting.
type Target interface {
	SetConfig(text []byte) error
	SetRules(name string, text []byte) error
	DeleteRules(name string) error
}

// Watcher keeps a Target configured as the objects say.
type Watcher struct {
	cfg    Config
	target Target
	client client.Client
	events *events.Recorder
	tel    *telemetry.Component

	loads   *prometheus.CounterVec // by kind and result
	refused *prometheus.GaugeVec   // by kind
}

// New returns a watcher that reads through c.
func New(cfg Config, target Target, c client.Client, rec *events.Recorder, tel *telemetry.Component) *Watcher {
	cfg.Namespace = cmp.Or(cfg.Namespace, "kube-system")
	cfg.Secret = cmp.Or(cfg.Secret, "binnacle-alerting")
	w := &Watcher{
		cfg: cfg, target: target, client: c, events: rec, tel: tel,
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "binnacle_alerting_object_loads_total", Help: "Configurations and rule files taken from objects, by kind and result.",
		}, []string{"kind", "result"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "binnacle_alerting_objects_refused", Help: "Objects whose present content could not be used.",
		}, []string{"kind"}),
	}
	tel.Registry.MustRegister(w.loads, w.refused)
	for _, kind := range []string{"Secret", "ConfigMap"} {
		w.refused.WithLabelValues(kind)
		for _, result := range []string{"applied", "refused", "removed"} {
			w.loads.WithLabelValues(kind, result)
		}
	}
	return w
}

// Run follows the objects until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { // the Secret
		s := w.source("Secret", func(_ string, text []byte) error { return w.target.SetConfig(text) },
			func(string) error { return w.target.SetConfig(nil) })
		follow(ctx, w, s, client.ReadOptions{Fields: fields.OneTermEqualSelector("metadata.name", w.cfg.Secret)},
			func(o *corev1.Secret) (map[string][]byte, error) {
				text, ok := o.Data[ConfigKey]
				if !ok {
					return nil, fmt.Errorf("it has no key %q", ConfigKey)
				}
				return map[string][]byte{ConfigKey: text}, nil
			})
	})
	running.Go(func() { // the ConfigMaps
		s := w.source("ConfigMap", w.target.SetRules, w.target.DeleteRules)
		follow(ctx, w, s, client.ReadOptions{Labels: labels.SelectorFromSet(labels.Set{RulesLabel: "true"})},
			func(o *corev1.ConfigMap) (map[string][]byte, error) {
				files := map[string][]byte{}
				for key, text := range o.Data {
					files[key] = []byte(text)
				}
				maps.Copy(files, o.BinaryData)
				return files, nil
			})
	})
	running.Wait()
	return nil
}

// follow hands every state of the objects to the source.
func follow[T client.Object](ctx context.Context, w *Watcher, s *source, opts client.ReadOptions, files func(T) (map[string][]byte, error)) {
	opts.Namespace = w.cfg.Namespace
	change := func(obj T) {
		f, err := files(obj)
		s.change(obj, f, err)
	}
	watch.Follow(ctx, w.client, opts, w.tel, watch.Sink[T]{
		Replace: func(items []T) {
			present := map[client.Key]bool{}
			for _, obj := range items {
				present[client.KeyOf(obj)] = true
				change(obj)
			}
			for _, key := range slices.Collect(maps.Keys(s.objects)) {
				if !present[key] {
					s.delete(key)
				}
			}
		},
		Apply: func(e client.EventType, obj T) {
			if e == client.Deleted {
				s.delete(client.KeyOf(obj))
				return
			}
			change(obj)
		},
	})
}

// source is what has been taken from the objects of one kind. One goroutine uses
// it.
type source struct {
	*Watcher
	kind    string
	set     func(name string, text []byte) error
	remove  func(name string) error
	objects map[client.Key]*object
}

// object is what has been seen of one object.
type object struct {
	tried   map[string][]byte // last content of each key, used or not
	inForce map[string]bool   // keys of which some content is in force
	faults  map[string]error  // by key; "" for the object itself
}

func (w *Watcher) source(kind string, set func(string, []byte) error, remove func(string) error) *source {
	return &source{Watcher: w, kind: kind, set: set, remove: remove, objects: map[client.Key]*object{}}
}

// change takes the object's files, which are those not seen before, and drops those
// that are gone. With a fault, what is in force stays.
func (s *source) change(obj client.Object, files map[string][]byte, fault error) {
	key := client.KeyOf(obj)
	o := s.objects[key]
	if o == nil {
		o = &object{tried: map[string][]byte{}, inForce: map[string]bool{}, faults: map[string]error{}}
		s.objects[key] = o
	}
	defer s.count()
	if fault != nil {
		if o.faults[""] == nil {
			s.report(obj, fault)
		}
		o.faults[""] = fault
		return
	}
	delete(o.faults, "")
	for _, k := range slices.Sorted(maps.Keys(o.tried)) {
		if _, ok := files[k]; !ok {
			s.drop(key, o, k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(files)) {
		if old, ok := o.tried[k]; ok && bytes.Equal(old, files[k]) {
			continue
		}
		o.tried[k] = files[k]
		if err := s.set(name(key, k), files[k]); err != nil {
			o.faults[k] = err
			s.report(obj, fmt.Errorf("key %q: %w", k, err))
			continue
		}
		delete(o.faults, k)
		o.inForce[k] = true
		s.loads.WithLabelValues(s.kind, "applied").Inc()
		s.tel.Log.Info("alerting object is in force", "kind", s.kind, "object", key.String(), "key", k)
		s.events.Event(obj, corev1.EventTypeNormal, "AlertingApplied", "%s is in force", k)
	}
}

func (s *source) delete(key client.Key) {
	if o := s.objects[key]; o != nil {
		for k := range o.tried {
			s.drop(key, o, k)
		}
	}
	delete(s.objects, key)
	s.count()
}

func (s *source) drop(key client.Key, o *object, k string) {
	delete(o.tried, k)
	delete(o.faults, k)
	if !o.inForce[k] {
		return
	}
	delete(o.inForce, k)
	if err := s.remove(name(key, k)); err != nil {
		s.tel.Log.Error("cannot take an alerting object's content away", "kind", s.kind, "object", key.String(), "key", k, "err", err)
		return
	}
	s.loads.WithLabelValues(s.kind, "removed").Inc()
	s.tel.Log.Info("alerting object is no longer in force", "kind", s.kind, "object", key.String(), "key", k)
}

// quoted are values that errors of parsers cite: a Secret's stay in the Secret.
// Names, which they cite as well, have neither "://" nor back-quotes.
var quoted = regexp.MustCompile("`[^`]*`|\"[^\"]*://[^\"]*\"")

// maxMessage is what an Event's message may have, in bytes.
const maxMessage = 1000

func (s *source) report(obj client.Object, err error) {
	s.loads.WithLabelValues(s.kind, "refused").Inc()
	message := err.Error()
	if s.kind == "Secret" {
		message = quoted.ReplaceAllString(message, "<hidden>")
	}
	s.tel.Log.Error("alerting object cannot be used, what was before stays", "kind", s.kind, "object", client.KeyOf(obj).String(), "err", message)
	s.events.Event(obj, corev1.EventTypeWarning, "AlertingRefused", "%s", strings.ToValidUTF8(message[:min(len(message), maxMessage)], ""))
}

func (s *source) count() {
	n := 0
	for _, o := range s.objects {
		if len(o.faults) > 0 {
			n++
		}
	}
	s.refused.WithLabelValues(s.kind).Set(float64(n))
}

// name is what a key's rules are set under.
func name(object client.Key, key string) string { return object.String() + "/" + key }
