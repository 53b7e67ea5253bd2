package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// control answers those who may open the socket: the owner of the process.
type control struct {
	server *http.Server
	ended  chan struct{}
}

const rotatePath = "/rotate-keys"

// listenPrivately makes a unix socket that only its owner can connect to.
func listenPrivately(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	// Left by a process that was killed; one that lives holds the lock of
	// the data directory.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// startControl returns nil when there is to be no socket.
func startControl(s *Store) (*control, error) {
	if s.cfg.ControlSocket == "" {
		return nil, nil
	}
	l, err := listenPrivately(s.cfg.ControlSocket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+rotatePath, s.serveRotate)
	c := &control{server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.tel.Log.Error("cannot serve the store's socket", "path", s.cfg.ControlSocket, "error", err)
		}
	}()
	return c, nil
}

// close ends requests by their contexts and waits for the listener.
func (c *control) close() error {
	if c == nil {
		return nil
	}
	err := c.server.Close()
	<-c.ended
	return err
}

func (s *Store) serveRotate(w http.ResponseWriter, r *http.Request) {
	// The one who asked may go away; what is begun is better finished.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	finished := make(chan struct{})
	s.owned.Go(func() {
		select {
		case <-s.done:
		case <-finished:
		}
		cancel()
	})
	defer close(finished)
	out, err := s.RotateKeys(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the client is gone
}

// ErrNobodyRuns says that no process answers on a control socket.
var ErrNobodyRuns = errors.New("no process runs on the store")

// AskToRotateKeys has the process that runs on a store rotate its keys.
func AskToRotateKeys(ctx context.Context, socket string) (*Rotation, error) {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://store"+rotatePath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return nil, fmt.Errorf("%w: %w", ErrNobodyRuns, op)
		}
		return nil, fmt.Errorf("cannot rotate encryption keys: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var text [1 << 10]byte
		n, _ := resp.Body.Read(text[:])
		return nil, errors.New(string(text[:n]))
	}
	out := &Rotation{}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("cannot rotate encryption keys: %w", err)
	}
	return out, nil
}
