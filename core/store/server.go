package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"binnacle.io/core/telemetry"
)

// server is an embedded etcd and the lock on its directory.
type server struct {
	etcd *embed.Etcd
	lock *os.File
}

// startServer runs etcd in cfg.Dir and returns when it answers.
func startServer(ctx context.Context, cfg Config, tel *telemetry.Component) (_ *server, err error) {
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &server{lock: lock}
	defer func() {
		// etcd panics on what it finds broken in its directory, through
		// the logger it is given.
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot open store in %s: %v", cfg.Dir, p)
		}
		if err != nil {
			s.close()
		}
	}()
	ec, err := embedConfig(cfg, tel)
	if err != nil {
		return nil, err
	}
	if err := checkDatabase(ec.Dir); err != nil {
		return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
	}
	if s.etcd, err = embed.StartEtcd(ec); err != nil {
		return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
	}
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
		if err := s.disarm(ctx, cfg); err != nil {
			return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
		}
		return s, nil
	case err := <-s.etcd.Err():
		return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
	case <-s.etcd.Server.StopNotify():
		return nil, fmt.Errorf("cannot open store in %s: etcd stopped while starting", cfg.Dir)
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, ctx.Err())
	case <-timeout.C:
		return nil, fmt.Errorf("cannot open store in %s: etcd is not ready after %s", cfg.Dir, readyTimeout)
	}
}

func embedConfig(cfg Config, tel *telemetry.Component) (*embed.Config, error) {
	ec := embed.NewConfig()
	ec.Name = "binnacle"
	ec.Dir = filepath.Join(cfg.Dir, "etcd")
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(tel.Log))
	// The advertised peer URL is this member's name in a cluster of one:
	// nothing listens on it.
	self := url.URL{Scheme: "http", Host: "localhost:2380"}
	ec.AdvertisePeerUrls = []url.URL{self}
	ec.ListenPeerUrls = nil
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, nil
	if cfg.ListenClient != "" {
		u, err := url.Parse(cfg.ListenClient)
		if err != nil {
			return nil, fmt.Errorf("cannot listen for etcd clients on %q: %w", cfg.ListenClient, err)
		}
		ec.ListenClientUrls = []url.URL{*u}
		ec.AdvertiseClientUrls = []url.URL{*u}
	}
	ec.QuotaBackendBytes = cfg.QuotaBytes
	ec.MaxRequestBytes = maxRequestBytes
	ec.BootstrapDefragThresholdMegabytes = defragMegabytes
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = cfg.CompactEvery.String()
	ec.UnsafeNoFsync = cfg.NoFsync
	return ec, nil
}

// checkDatabase opens the database file, if there is one, as etcd will: etcd
// does it on a goroutine whose panic would end the process.
func checkDatabase(dir string) error {
	name := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("cannot read database %s: %w", name, reason(err))
	}
	return db.Close()
}

// disarm ends etcd's refusal to write when the database is below its quota
// again: the quota was raised, or starting has defragmented the file.
func (s *server) disarm(ctx context.Context, cfg Config) error {
	if s.etcd.Server.Backend().Size() >= cfg.QuotaBytes {
		return nil
	}
	cl := s.client()
	defer cl.Close()
	alarms, err := cl.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("cannot list etcd's alarms: %w", err)
	}
	for _, a := range alarms.Alarms {
		if a.Alarm != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		if _, err := cl.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
			return fmt.Errorf("cannot disarm etcd's space alarm: %w", err)
		}
	}
	return nil
}

func (s *server) client() *clientv3.Client { return v3client.New(s.etcd.Server) }

func (s *server) close() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
	if s.lock != nil {
		// Closing gives up the lock.
		_ = s.lock.Close()
		s.lock = nil
	}
}

// lockDir makes dir if need be and locks it until the returned file is closed.
// The kernel gives up the lock of a process that dies.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", dir, reason(err))
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot use data directory %s: %w", dir, reason(err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock data directory %s: %w", dir, err)
		}
		holder := "another process"
		if pid, err := os.ReadFile(name); err == nil && len(pid) > 0 {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return nil, fmt.Errorf("cannot use data directory %s: %s is running on it; stop it or choose another directory", dir, holder)
	}
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("cannot use data directory %s: %w", dir, reason(err))
		}
	}
	return f, nil
}

// reason drops the path that an error of package os repeats.
func reason(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// dial connects to an existing etcd.
func dial(ctx context.Context, cfg Config, tel *telemetry.Component) (*clientv3.Client, error) {
	cc := clientv3.Config{
		Context:              context.WithoutCancel(ctx),
		Endpoints:            cfg.Endpoints,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		MaxCallSendMsgSize:   maxRequestBytes + 1<<20,
		MaxCallRecvMsgSize:   1<<31 - 1,
		Logger:               zapLogger(tel.Log).WithOptions(zap.IncreaseLevel(zap.WarnLevel)),
	}
	if cfg.CAFile != "" || cfg.CertFile != "" {
		info := transport.TLSInfo{TrustedCAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
		tls, err := info.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("cannot use TLS files for etcd %s: %w", strings.Join(cfg.Endpoints, ","), err)
		}
		cc.TLS = tls
	}
	cl, err := clientv3.New(cc)
	if err != nil {
		return nil, fmt.Errorf("cannot reach etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	// The client connects lazily: find out now.
	hello, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := cl.Get(hello, root+"health", clientv3.WithKeysOnly()); err != nil {
		_ = cl.Close()
		return nil, fmt.Errorf("cannot reach etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return cl, nil
}
