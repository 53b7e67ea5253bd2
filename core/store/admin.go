package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"

	"binnacle.io/core/telemetry"
)

// Admin is the door to a store's etcd for those who look after it: through
// the socket of the process that runs on it, by starting etcd on a directory
// that nobody uses, or at the configured endpoints.
type Admin struct {
	*clientv3.Client
	// Endpoints are etcd's client URLs.
	Endpoints []string
	// Running says that another process serves the store.
	Running bool

	cfg    clientv3.Config
	tel    *telemetry.Component
	server *server
	temp   string
}

// Administer opens the door.
func Administer(ctx context.Context, cfg Config, tel *telemetry.Component) (*Admin, error) {
	a := &Admin{tel: tel, Running: true}
	if len(cfg.Endpoints) == 0 {
		socket, err := a.socket(ctx, cfg)
		if err != nil {
			return nil, err
		}
		cfg.Endpoints = []string{socket}
	}
	var err error
	if a.cfg, err = clientConfig(ctx, cfg, tel); err == nil {
		a.Client, err = dial(ctx, cfg, tel)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.Endpoints = cfg.Endpoints
	return a, nil
}

// socket finds the one of a running process, or starts etcd with one.
func (a *Admin) socket(ctx context.Context, cfg Config) (string, error) {
	path, ok := strings.CutPrefix(cfg.ListenClient, "unix://")
	if ok {
		if c, err := net.Dial("unix", path); err == nil {
			return cfg.ListenClient, c.Close()
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "etcd", "member")); err != nil {
		return "", fmt.Errorf("cannot find etcd's data in %s: %w", cfg.Dir, reason(err))
	}
	var err error
	if a.temp, err = os.MkdirTemp("", "etcd"); err != nil {
		return "", fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
	}
	cfg.ListenClient = "unix://" + filepath.Join(a.temp, "client.sock")
	if cfg, err = cfg.withDefaults(); err == nil {
		a.server, err = startServer(ctx, cfg, a.tel)
	}
	if err != nil {
		return "", errors.Join(err, a.Close())
	}
	a.Running = false
	return cfg.ListenClient, nil
}

// Close is safe twice.
func (a *Admin) Close() error {
	var err error
	if a.Client != nil {
		err = a.Client.Close()
		a.Client = nil
	}
	if a.server != nil {
		a.server.close()
		a.server = nil
	}
	if a.temp != "" {
		err = errors.Join(err, os.RemoveAll(a.temp))
		a.temp = ""
	}
	return err
}

// Save writes a snapshot of one member to a file, whole or not at all, with
// etcd's checksum behind it: etcd's own tools read it.
func (a *Admin) Save(ctx context.Context, file string) error {
	cfg := a.cfg
	cfg.Endpoints = a.Endpoints[:1]
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("cannot save a snapshot to %s: the file exists", file)
	}
	if _, err := snapshot.SaveWithVersion(ctx, zapLogger(a.tel.Log), cfg, file); err != nil {
		return fmt.Errorf("cannot save a snapshot to %s: %w", file, err)
	}
	return nil
}

// EndpointStatus is what a member says of itself.
type EndpointStatus struct {
	Endpoint string                   `json:"Endpoint"`
	Status   *clientv3.StatusResponse `json:"Status"`
}

// Status asks every endpoint.
func (a *Admin) Status(ctx context.Context) ([]EndpointStatus, error) {
	var out []EndpointStatus
	for _, ep := range a.Endpoints {
		st, err := a.Client.Status(ctx, ep)
		if err != nil {
			return out, fmt.Errorf("cannot ask etcd %s for its status: %w", ep, err)
		}
		out = append(out, EndpointStatus{ep, st})
	}
	return out, nil
}

// Health is one member's answer to a read.
type Health struct {
	Endpoint string `json:"endpoint"`
	Healthy  bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

// Health reads a key through every endpoint and lists the alarms.
func (a *Admin) Health(ctx context.Context) []Health {
	var out []Health
	for _, ep := range a.Endpoints {
		h := Health{Endpoint: ep}
		start := time.Now()
		err := a.healthy(ctx, ep)
		h.Took = time.Since(start).String()
		if h.Healthy = err == nil; err != nil {
			h.Error = err.Error()
		}
		out = append(out, h)
	}
	return out
}

func (a *Admin) healthy(ctx context.Context, endpoint string) error {
	cfg := a.cfg
	cfg.Endpoints = []string{endpoint}
	one, err := clientv3.New(cfg)
	if err != nil {
		return err
	}
	defer one.Close()
	if _, err := one.Get(ctx, root+"health"); err != nil {
		return err
	}
	alarms, err := one.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, al := range alarms.Alarms {
		if al.Alarm != etcdserverpb.AlarmType_NONE {
			return fmt.Errorf("active alarm %s", al.Alarm)
		}
	}
	return nil
}

// Defragment rewrites every member's database without its free space, one
// after the other. A member answers nothing meanwhile.
func (a *Admin) Defragment(ctx context.Context) error {
	for _, ep := range a.Endpoints {
		if _, err := a.Client.Defragment(ctx, ep); err != nil {
			return fmt.Errorf("cannot defragment etcd %s: %w", ep, err)
		}
	}
	return nil
}

// CompactTo drops the history before revision, the present one if zero, and
// returns it once the space is free.
func (a *Admin) CompactTo(ctx context.Context, revision int64) (int64, error) {
	if revision == 0 {
		resp, err := a.Get(ctx, root+"health", clientv3.WithKeysOnly())
		if err != nil {
			return 0, fmt.Errorf("cannot read etcd's revision: %w", err)
		}
		revision = resp.Header.Revision
	}
	if _, err := a.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return revision, fmt.Errorf("cannot compact etcd to revision %d: %w", revision, err)
	}
	return revision, nil
}
