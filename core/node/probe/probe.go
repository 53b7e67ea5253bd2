package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/node/runtime"
)

// Answer is what one probe came back with.
type Answer int

// Unknown means that the probe could not be made; it counts for nothing.
const (
	Unknown Answer = iota
	Success
	Failure
)

func (a Answer) String() string { return [...]string{"unknown", "successful", "failed"}[a] }

// Execer runs a command in a container.
type Execer interface {
	Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (runtime.ExecResult, error)
}

// Target is the container a probe is about.
type Target struct {
	Container *corev1.Container
	ID        string
	PodIP     string
	// Version goes into the User-Agent, e.g. "1.37".
	Version string
}

// maxBody bounds what is read of an answer.
const maxBody = 10 << 10

// Once makes one probe. The text explains a failure.
func Once(ctx context.Context, exec Execer, t Target, p *corev1.Probe) (Answer, string) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.Exec != nil:
		return execProbe(ctx, exec, t, p.Exec, timeout)
	case p.HTTPGet != nil:
		return httpProbe(ctx, t, p.HTTPGet, timeout)
	case p.TCPSocket != nil:
		return tcpProbe(ctx, t, p.TCPSocket, timeout)
	case p.GRPC != nil:
		return grpcProbe(ctx, t, p.GRPC, timeout)
	}
	return Unknown, "missing probe handler"
}

func execProbe(ctx context.Context, exec Execer, t Target, a *corev1.ExecAction, timeout time.Duration) (Answer, string) {
	r, err := exec.Exec(ctx, t.ID, a.Command, timeout)
	if errors.Is(err, runtime.ErrExecTimeout) {
		return Failure, fmt.Sprintf("command timed out: %q timed out after %s", a.Command, timeout)
	}
	if err != nil {
		return Unknown, runtime.Detail(err)
	}
	if r.ExitCode != 0 {
		out := append(r.Stdout, r.Stderr...)
		return Failure, string(out[:min(len(out), maxBody)])
	}
	return Success, ""
}

func httpProbe(ctx context.Context, t Target, g *corev1.HTTPGetAction, timeout time.Duration) (Answer, string) {
	port, err := Port(g.Port, t.Container)
	if err != nil {
		return Unknown, err.Error()
	}
	host := g.Host
	if host == "" {
		host = t.PodIP
	}
	scheme := "http"
	if g.Scheme != "" {
		scheme = strings.ToLower(string(g.Scheme))
	}
	u, err := url.Parse(g.Path)
	if err != nil {
		u = &url.URL{Path: g.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Unknown, err.Error()
	}
	for _, h := range g.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "kube-probe/"+t.Version)
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "*/*")
	}
	resp, err := httpClient(timeout).Do(req)
	if err != nil {
		return Failure, err.Error()
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, maxBody); err != nil && err != io.EOF {
		return Failure, err.Error()
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return Success, ""
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode)
}

// httpClient makes a connection for one probe: reusing one would hide that a
// server no longer accepts. Redirects are followed on the same host only, and
// certificates are not verified, both as upstream.
func httpClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:  true,
			DisableCompression: true,
			Proxy:              nil,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func tcpProbe(ctx context.Context, t Target, a *corev1.TCPSocketAction, timeout time.Duration) (Answer, string) {
	port, err := Port(a.Port, t.Container)
	if err != nil {
		return Unknown, err.Error()
	}
	host := a.Host
	if host == "" {
		host = t.PodIP
	}
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error()
	}
	conn.Close()
	return Success, ""
}

func grpcProbe(ctx context.Context, t Target, a *corev1.GRPCAction, timeout time.Duration) (Answer, string) {
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	addr := net.JoinHostPort(t.PodIP, strconv.Itoa(int(a.Port)))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/"+t.Version))
	if err != nil {
		return Failure, fmt.Sprintf("error: failed to connect service at %q: %+v", addr, err)
	}
	defer conn.Close()
	r, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	if err != nil {
		switch status.Code(err) {
		case codes.Unimplemented:
			return Failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
		case codes.DeadlineExceeded:
			return Failure, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout)
		}
		return Failure, fmt.Sprintf("error: health rpc probe failed: %+v", err)
	}
	if r.Status != healthpb.HealthCheckResponse_SERVING {
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", r.Status.String())
	}
	return Success, ""
}

// Port resolves a port given by number or by a container port's name.
func Port(p intstr.IntOrString, c *corev1.Container) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		found := false
		for i := range c.Ports {
			if c.Ports[i].Name == p.StrVal {
				n, found = int(c.Ports[i].ContainerPort), true
			}
		}
		if !found {
			var err error
			if n, err = strconv.Atoi(p.StrVal); err != nil {
				return 0, fmt.Errorf("couldn't find port %q in container %q", p.StrVal, c.Name)
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", p.String())
	}
	return n, nil
}
