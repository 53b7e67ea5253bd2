package store

import (
	"errors"
	"fmt"
	"time"

	"binnacle.io/core/client"
)

// Config is what users may choose about the store. The zero value is not
// usable: either Dir or Endpoints must be set.
type Config struct {
	// Dir is the data directory of the embedded etcd.
	Dir string
	// ListenClient is the URL on which the embedded etcd answers etcd
	// clients (etcdctl), such as http://127.0.0.1:2379. Empty means none:
	// the process talks to its etcd without a socket. A unix socket is its
	// owner's only.
	ListenClient string
	// ControlSocket is the path of a unix socket on which the process takes
	// requests to rotate keys. Empty means none.
	ControlSocket string
	// NoFsync leaves writes in the operating system's cache. Acknowledged
	// writes are then lost when the machine stops. For tests.
	NoFsync bool
	// QuotaBytes is the size at which etcd refuses to grow. Zero means
	// 7 GiB.
	QuotaBytes int64

	// Endpoints are the client URLs of an existing etcd cluster, used
	// instead of an embedded one.
	Endpoints []string
	// CAFile, CertFile and KeyFile are PEM files for TLS to Endpoints.
	CAFile, CertFile, KeyFile string

	// Encryption is that of values at rest.
	Encryption Encryption

	// CompactEvery is how often history is compacted; revisions younger
	// than that stay. Zero means 5 minutes.
	CompactEvery time.Duration
	// TTL makes objects of a resource vanish this long after their last
	// write. Nil means events after one hour; an empty map means none.
	TTL map[client.Resource]time.Duration

	// RingEvents bounds the events remembered per kind. Zero means 32768.
	// They are fewer where they hold more than 32 MiB of stored values.
	RingEvents int
	// RingAge is how long events are remembered where RingEvents allows.
	// Zero means 75 seconds, as upstream.
	RingAge time.Duration
	// KeepFor is how long the snapshot behind a continue token can be read.
	// Zero means 5 minutes, as Kubernetes' documentation promises.
	KeepFor time.Duration
	// EncodedBytes bounds the encodings cached on all entries together.
	// Zero means 256 MiB.
	EncodedBytes int64
}

const (
	defaultQuota     = 7 << 30 // etcd, which gets an eighth more, warns above 8 GiB
	defaultCompact   = 5 * time.Minute
	defaultEventTTL  = time.Hour
	defaultRing      = 32768
	defaultRingAge   = 75 * time.Second
	defaultKeepFor   = 5 * time.Minute
	defaultEncoded   = 256 << 20
	minRing          = 128
	maxRingBytes     = 32 << 20 // of stored values per kind; in memory they take about four times as much
	muchForgotten    = 4 << 20
	raftEntries      = 5000    // writes between etcd's snapshots; all of them are in memory
	raftCatchUp      = 500     // and so many more for members that lag
	maxRequestBytes  = 3 << 20 // upstream's limit on request bodies, which etcd must be able to store
	defragMegabytes  = 64      // free space in the database file that starting etcd gives back
	dialTimeout      = 20 * time.Second
	probeTimeout     = 2 * time.Second
	readyTimeout     = 2 * time.Minute
	operationTimeout = 30 * time.Second
)

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" && len(c.Endpoints) == 0 {
		return c, errors.New("cannot open store: neither a data directory nor etcd endpoints are configured")
	}
	if c.Dir != "" && len(c.Endpoints) > 0 {
		return c, fmt.Errorf("cannot open store: both a data directory (%s) and etcd endpoints are configured, choose one", c.Dir)
	}
	if len(c.Endpoints) > 0 && c.ListenClient != "" {
		return c, errors.New("cannot open store: a client listener needs the embedded etcd, but endpoints are configured")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return c, errors.New("cannot open store: a TLS certificate and its key go together, only one is configured")
	}
	if c.QuotaBytes < 0 || c.RingEvents < 0 || c.RingAge < 0 || c.KeepFor < 0 || c.EncodedBytes < 0 || c.CompactEvery < 0 {
		return c, errors.New("cannot open store: sizes and durations must not be negative")
	}
	setDefault(&c.QuotaBytes, defaultQuota)
	setDefault(&c.CompactEvery, defaultCompact)
	setDefault(&c.RingEvents, defaultRing)
	setDefault(&c.RingAge, defaultRingAge)
	setDefault(&c.KeepFor, defaultKeepFor)
	setDefault(&c.EncodedBytes, defaultEncoded)
	if c.TTL == nil {
		c.TTL = map[client.Resource]time.Duration{
			{Resource: "events"}:                         defaultEventTTL,
			{Group: "events.k8s.io", Resource: "events"}: defaultEventTTL,
		}
	}
	return c, nil
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}
