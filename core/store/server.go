package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	etcd   *embed.Etcd
	lock   *os.File
	failed *failure
	closed sync.Once
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
	fatal := newFatal()
	s.failed = fatal.failed
	ec, err := embedConfig(cfg, fatal.logger(tel.Log))
	if err != nil {
		return nil, err
	}
	if err := checkDatabase(ec.Dir); err != nil {
		return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
	}
	socket, private := strings.CutPrefix(cfg.ListenClient, "unix://")
	if private {
		if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
			return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
		}
	}
	if s.etcd, err = embed.StartEtcd(ec); err != nil {
		return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
	}
	if private {
		if err := os.Chmod(socket, 0o600); err != nil {
			return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
		}
	}
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
		if s.etcd.Server.Backend().Size() < hardQuota(cfg.QuotaBytes) {
			cl := s.client()
			defer cl.Close()
			if err := s.disarm(ctx, cl); err != nil {
				return nil, fmt.Errorf("cannot open store in %s: %w", cfg.Dir, err)
			}
		}
		fatal.started.Store(true)
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

func embedConfig(cfg Config, log *zap.Logger) (*embed.Config, error) {
	ec := embed.NewConfig()
	ec.Name = "binnacle"
	ec.Dir = filepath.Join(cfg.Dir, "etcd")
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	// The advertised peer URL is this member's name in a cluster of one:
	// nothing listens on it.
	self := url.URL{Scheme: "http", Host: "localhost:2380"}
	ec.AdvertisePeerUrls = []url.URL{self}
	ec.ListenPeerUrls = nil
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, nil
	ec.EnableGRPCGateway = false
	if cfg.ListenClient != "" {
		u, err := url.Parse(cfg.ListenClient)
		if err != nil {
			return nil, fmt.Errorf("cannot listen for etcd clients on %q: %w", cfg.ListenClient, err)
		}
		ec.ListenClientUrls = []url.URL{*u}
		ec.AdvertiseClientUrls = []url.URL{*u}
	}
	ec.QuotaBackendBytes = hardQuota(cfg.QuotaBytes)
	ec.MaxRequestBytes = maxRequestBytes
	ec.SnapshotCount, ec.SnapshotCatchUpEntries = raftEntries, raftCatchUp
	ec.BootstrapDefragThresholdMegabytes = defragMegabytes
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

// disarm ends etcd's refusal to write, now that the database is below its
// quota again: the quota was raised, or the file has been defragmented.
func (s *server) disarm(ctx context.Context, cl *clientv3.Client) error {
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

// close is safe twice. What etcd failed under may still be looking at it then:
// the fields stay as they are.
func (s *server) close() { s.closed.Do(s.stop) }

func (s *server) stop() {
	if s.etcd != nil && s.failed.err() == nil {
		closed, etcd := make(chan struct{}), s.etcd
		go func() {
			defer close(closed)
			etcd.Close()
		}()
		// What fails stands still where it was and cannot be waited for.
		select {
		case <-closed:
		case <-s.failed.ended:
		}
	}
	if s.lock != nil {
		unlockDir(s.lock)
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

// unlockDir gives up the lock even where a child between fork and exec has the
// file open too.
func unlockDir(lock *os.File) {
	_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	_ = lock.Close()
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
	cc, err := clientConfig(ctx, cfg, tel)
	if err != nil {
		return nil, err
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
		return nil, fmt.Errorf("cannot reach etcd at %s: %w", strings.Join(cfg.Endpoints, ","), cmp.Or(probe(ctx, cfg.Endpoints[0], cc.TLS), err))
	}
	return cl, nil
}

// probe returns why no connection to an endpoint comes about, which etcd's
// client keeps to itself, or nil if that is not it.
func probe(ctx context.Context, endpoint string, cfg *tls.Config) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme == "unix" || u.Scheme == "unixs" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil || u.Scheme != "https" {
		if conn != nil {
			_ = conn.Close()
		}
		return err
	}
	defer conn.Close()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	cfg.ServerName, cfg.NextProtos = u.Hostname(), []string{"h2"}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	// A server that does not like the client's certificate says so after the
	// handshake; one that does sends its HTTP/2 settings.
	_ = c.SetReadDeadline(time.Now().Add(probeTimeout))
	_, err = c.Read(make([]byte, 1))
	return err
}

func clientConfig(ctx context.Context, cfg Config, tel *telemetry.Component) (clientv3.Config, error) {
	cc := clientv3.Config{
		Context:              context.WithoutCancel(ctx),
		Endpoints:            cfg.Endpoints,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		MaxCallSendMsgSize:   maxRequestBytes + 1<<20,
		MaxCallRecvMsgSize:   1<<31 - 1,
		Logger:               zapLogger(tel.Log),
	}
	if cc.Logger.Core().Enabled(zap.WarnLevel) {
		// What the client says of itself is not even for debugging.
		cc.Logger = cc.Logger.WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	if cfg.CAFile != "" || cfg.CertFile != "" {
		info := transport.TLSInfo{TrustedCAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
		config, err := info.ClientConfig()
		if err != nil {
			return cc, fmt.Errorf("cannot use TLS files for etcd %s: %w", strings.Join(cfg.Endpoints, ","), err)
		}
		cc.TLS = config
	}
	return cc, nil
}
