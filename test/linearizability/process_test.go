package linearizability

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"binnacle.io/core/admission"
	"binnacle.io/core/api"
	"binnacle.io/core/auth"
	"binnacle.io/core/cluster/bootstrap"
	"binnacle.io/core/cluster/kubeconfig"
	"binnacle.io/core/cluster/pki"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
	"binnacle.io/test/server"
)

// These tell a re-executed test binary to be the server.
const (
	serverDir     = "LINEARIZABILITY_SERVER_DIR"
	serverAddress = "LINEARIZABILITY_SERVER_ADDRESS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverDir); dir != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := serve(ctx, dir, os.Getenv(serverAddress)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve is the control plane without controllers: what a program serves that
// is killed here.
func serve(ctx context.Context, dir, address string) error {
	hub := telemetry.NewHub(telemetry.Config{Log: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})})
	tel := hub.Component("apiserver", "apiserver")
	loopback := netip.MustParseAddr("127.0.0.1")
	certs, err := pki.Ensure(pki.Config{Dir: filepath.Join(dir, "pki"), NodeName: "node", Addresses: []netip.Addr{loopback}})
	if err != nil {
		return err
	}
	kinds := kind.Builtin()
	cfg := doors(dir)
	cfg.Dir, cfg.Encryption.File = filepath.Join(dir, "etcd"), filepath.Join(dir, "pki", "encryption.yaml")
	st, err := store.Open(ctx, cfg, kinds, hub.Component("etcd", "etcd"))
	if err != nil {
		return err
	}
	defer st.Close()
	tokens, err := auth.NewTokens(auth.TokenConfig{}, certs.ServiceAccountKey)
	if err != nil {
		return err
	}
	rbac := auth.NewRBAC()
	chain, err := admission.NewChain(tel)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	srv, err := api.New(api.Config{
		Listener: l, TLS: api.ServerTLS(certs.APIServer.TLS()),
		Tokens: tokens, Verifiers: []auth.TokenVerifier{tokens}, Audiences: tokens.Audiences(), Rules: rbac,
		NodeTLS: &tls.Config{Certificates: []tls.Certificate{certs.APIServerKubeletClient.TLS()}, RootCAs: certs.Pool()},
	}, st, kinds, auth.NewUnion(auth.NewCertificates(certs.Pool(), nil)), auth.NewAuthorizers(auth.Masters(), rbac), chain, tel)
	if err != nil {
		return err
	}
	admin := srv.Client(&auth.User{Name: "system:apiserver", Groups: []string{auth.GroupMasters}})
	chain.Use(admission.NewNamespaceLifecycle(admin))
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() {
		if err := srv.Run(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err)
			cancel()
		}
	})
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return fmt.Errorf("cannot serve on %q: want host:port", address)
	}
	if err := bootstrap.Bootstrap(ctx, admin, bootstrap.Config{
		AdvertiseAddress: loopback, Port: l.Addr().(*net.TCPAddr).Port, ClientCA: certs.CA.CertPEM,
	}); err != nil {
		return err
	}
	if err := kubeconfig.Write(filepath.Join(dir, "kubeconfig"), kubeconfig.New("test", "https://"+address, certs.CA, certs.Admin)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// doors are the sockets of the server's etcd.
func doors(dir string) store.Config {
	return store.Config{
		ListenClient:  "unix://" + filepath.Join(dir, "run", "etcd", "client.sock"),
		ControlSocket: filepath.Join(dir, "run", "etcd", "control.sock"),
	}
}

// process is the server under test. Its directory and address outlive it.
type process struct {
	dir     string
	program string // "" is this binary
	address string // of this binary
	errors  *os.File

	kill func() error // of the running one
}

// newProcess prepares a server on a new directory.
func newProcess(t *testing.T, program string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "lin") // short: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, program: program, address: l.Addr().String(), kill: func() error { return nil }}
	l.Close()
	if p.errors, err = os.Create(filepath.Join(dir, "stderr")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		p.errors.Close()
		if b, err := os.ReadFile(p.errors.Name()); t.Failed() && err == nil && len(b) > 0 {
			t.Logf("the server's last words: %s", b[max(0, len(b)-4096):])
		}
		os.RemoveAll(dir)
	})
	return p
}

// up starts the server and returns when it serves.
func (p *process) up(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if p.program != "" {
		srv, err := server.Start(ctx, server.Config{Program: p.program, Dir: p.dir, Args: []string{"--monitoring=false"}})
		if err != nil {
			return nil, err
		}
		p.kill = srv.Kill
		return connect(srv.Kubeconfig, srv.Host)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverDir+"="+p.dir, serverAddress+"="+p.address)
	cmd.Stderr, cmd.Stdout = p.errors, p.errors
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	p.kill = func() error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-exited // killed
		p.kill = func() error { return nil }
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		select {
		case err := <-exited:
			exited <- err
			return nil, fmt.Errorf("the server ended: %w", err)
		case <-ctx.Done():
			return nil, fmt.Errorf("the server does not serve: %w", last)
		case <-tick.C:
		}
		s, err := connect(filepath.Join(p.dir, "kubeconfig"), "https://"+p.address)
		if err != nil {
			last = err
			continue
		}
		if last = s.ready(ctx); last == nil {
			return s, nil
		}
		s.close()
	}
}

// connect makes a client with connections of its own.
func connect(kubeconfig, url string) (*session, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	return &session{http: h, url: url}, nil
}

// session is a client that never retries: an operation is sent once.
type session struct {
	http *http.Client
	url  string
}

func (c *session) close() { c.http.CloseIdleConnections() }

func (c *session) ready(ctx context.Context) error {
	code, _, err := c.do(ctx, "GET", "/api/v1/namespaces/default", "", nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("status %d", code)
	}
	return nil
}

// errNotSent marks an operation that certainly did not happen.
var errNotSent = errors.New("not sent")

func (c *session) do(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	// Without a way to rewind the body the transport cannot send twice.
	req.GetBody = nil
	resp, err := c.http.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return 0, nil, errors.Join(errNotSent, err)
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, out, nil
}
