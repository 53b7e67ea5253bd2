// Package server runs a control plane without a node as a process of its own,
// for tests that need a real one: other people's programs, kills, conformance.
//
// It promises that a started server has answered /readyz, that its ports were
// free, that a second Start on the same directory finds the same data, and
// that Stop and Kill return when the process is gone. It refuses to build
// binnacle: make build does.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Config says what to run.
type Config struct {
	// Program is the binnacle to run. Default: bin/binnacle of this checkout.
	Program string
	// Dir holds data, kubeconfig and log. It is made when missing and not
	// removed.
	Dir string
	// Settings are further lines of binnacle.yaml, Args further flags.
	Settings string
	Args     []string
	// UID, when not 0, is the user and group to run as; Dir must be theirs.
	UID uint32
}

// Server is a running control plane.
type Server struct {
	Kubeconfig string
	// Host of the API, https://address:port.
	Host string
	// Observability is the address of the UI and the Prometheus API.
	Observability string

	cmd    *exec.Cmd
	out    *bytes.Buffer
	exited chan struct{}
	err    error // of Wait; set before exited is closed
}

// Start runs a server and waits until it is ready. A directory that was used
// before keeps its ports, so that its kubeconfig stays good.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Program == "" {
		var err error
		if cfg.Program, err = Program("binnacle"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	ports, err := keepPorts(filepath.Join(cfg.Dir, "ports"), 6)
	if err != nil {
		return nil, fmt.Errorf("cannot find free ports: %w", err)
	}
	file := filepath.Join(cfg.Dir, "binnacle.yaml")
	text := fmt.Sprintf("dataDir: %[1]s/data\nrunDir: %[1]s/run\nkubeconfig: %[1]s/kubeconfig\naddress: 127.0.0.1\nnodeName: server\n", cfg.Dir) +
		fmt.Sprintf("ports: {api: %d, observability: %d, otlpGRPC: %d, otlpHTTP: %d, controllers: %d, scheduler: %d}\n",
			ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]) + cfg.Settings
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	s := &Server{
		Kubeconfig: filepath.Join(cfg.Dir, "kubeconfig"), Host: fmt.Sprintf("https://127.0.0.1:%d", ports[0]),
		Observability: fmt.Sprintf("http://127.0.0.1:%d", ports[1]), out: &bytes.Buffer{}, exited: make(chan struct{}),
	}
	s.cmd = exec.Command(cfg.Program, append([]string{"server", "--agent=false", "--config", file}, cfg.Args...)...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = cfg.Dir, s.out, s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if cfg.UID != 0 {
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: cfg.UID, Gid: cfg.UID}
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cfg.Program, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.waitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return s, nil
}

// waitReady asks /readyz until it says ok.
func (s *Server) waitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = s.ready(ctx); last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("the server ended before it was ready: %w\n%s", s.err, s.out)
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready in time: %w", last)
		}
	}
}

func (s *Server) ready(ctx context.Context) error {
	cfg, err := s.REST()
	if err != nil {
		return err
	}
	if cfg.Host != s.Host {
		return fmt.Errorf("the kubeconfig is not for %s yet", s.Host)
	}
	c, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Host+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", resp.Status)
	}
	return nil
}

// REST is the administrator's access, without client-side limits.
func (s *Server) REST() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	return cfg, nil
}

// PID of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Exited is closed when the process is gone.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Output is what the server printed; complete once it has exited.
func (s *Server) Output() string {
	<-s.exited
	return s.out.String()
}

// Stop ends the server as Ctrl-C does and returns an error if it had one.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return s.err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("the server did not end: %w", ctx.Err()), s.Kill())
	}
}

// Kill ends the server without notice.
func (s *Server) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.exited
	return nil
}

// Program finds a program in bin/ of this checkout.
func Program(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cannot find the checkout: no go.mod in this folder nor above it")
		}
	}
	path := filepath.Join(dir, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run make build first", err)
	}
	return path, nil
}

// keepPorts returns the ports written in file, or finds free ones and writes
// them there.
func keepPorts(file string, n int) ([]int, error) {
	var ports []int
	b, err := os.ReadFile(file)
	if err == nil {
		for _, f := range strings.Fields(string(b)) {
			p, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("cannot read %s: %w", file, err)
			}
			ports = append(ports, p)
		}
		return ports, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var text []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		text = append(text, strconv.Itoa(ports[len(ports)-1]))
	}
	return ports, os.WriteFile(file, []byte(strings.Join(text, " ")+"\n"), 0o644)
}
