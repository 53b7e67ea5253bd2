package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"binnacle.io/core/client"
)

// keys are the keyring in use, its file, and what is counted of both.
type keys struct {
	file    string
	metrics *keyMetrics
	ring    atomic.Pointer[keyring]

	// writing is held for reading from the sealing of a value until etcd
	// has answered, so that whoever replaces the ring, holding it for
	// writing, knows that nothing sealed with the old one is under way.
	writing sync.RWMutex

	rotating sync.Mutex // held by the one rotation
	unknown  atomic.Int64
}

func openKeys(e Encryption) (_ *keys, made bool, err error) {
	cfg, made, err := ensureEncryption(e, time.Now())
	if err != nil {
		return nil, false, err
	}
	k := &keys{file: e.File, metrics: newKeyMetrics()}
	ring, err := newKeyring(cfg)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", e.File, err)
	}
	k.ring.Store(ring)
	return k, made, nil
}

// use replaces the ring once every write begun with the old one has ended.
func (k *keys) use(cfg *apiserver.EncryptionConfiguration) error {
	ring, err := newKeyring(cfg)
	if err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	k.ring.Store(ring)
	return nil
}

// begin is called before a value is sealed, and what it returns when etcd has
// answered or refused to.
func (k *keys) begin() (end func()) {
	k.writing.RLock()
	return k.writing.RUnlock
}

func (k *keys) seal(gr client.Resource, key string, plain []byte) []byte {
	ring := k.ring.Load()
	if len(ring.rules) == 0 {
		return plain
	}
	start := time.Now()
	value := ring.seal(gr, key, plain)
	if rule := ring.rule(gr); rule != nil {
		k.metrics.record(gr, "to_storage", rule.keys[0].provider, start, nil)
	}
	return value
}

func (k *keys) open(gr client.Resource, key string, value []byte) (plain []byte, stale bool, err error) {
	start := time.Now()
	ring := k.ring.Load()
	plain, stale, err = ring.open(gr, key, value)
	if _, ok := errors.AsType[*unknownKeyError](err); ok {
		k.unknown.Add(1)
	}
	if ring.rule(gr) != nil || err != nil {
		k.metrics.record(gr, "from_storage", providerOf(value), start, err)
	}
	return plain, stale, err
}

// providerOf is the part of a sealed value before the key's name.
func providerOf(value []byte) string {
	p := prefixOf(value)
	for i := 0; i < len(p)-1; i++ {
		if rest := p[i:]; len(rest) > 4 && rest[:4] == ":v1:" {
			return p[:i+4]
		}
	}
	return ""
}

// forgetFile removes a file that was made in vain, so that the next start does
// not take its key for the one that is missing.
func (k *keys) forgetFile() error { return os.Remove(k.file) }

// keyMetrics are upstream's.
type keyMetrics struct {
	duration   *prometheus.HistogramVec
	operations *prometheus.CounterVec
}

func newKeyMetrics() *keyMetrics {
	return &keyMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_storage_transformation_duration_seconds",
			Help:    "Time to encrypt (to_storage) or decrypt (from_storage) a value.",
			Buckets: prometheus.ExponentialBuckets(5e-6, 2, 25),
		}, []string{"transformation_type", "transformer_prefix"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_storage_transformation_operations_total",
			Help: "Values encrypted and decrypted, by outcome.",
		}, []string{"resource", "transformation_type", "transformer_prefix", "status"}),
	}
}

func (m *keyMetrics) record(gr client.Resource, kind, prefix string, start time.Time, err error) {
	status := "OK"
	if err != nil {
		status = "unknown-non-grpc" // upstream's word for any failure here
	} else {
		m.duration.WithLabelValues(kind, prefix).Observe(time.Since(start).Seconds())
	}
	m.operations.WithLabelValues(gr.String(), kind, prefix, status).Inc()
}
