package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/probe"
	"binnacle.io/core/node/runtime"
)

// maxHookAnswer bounds what of an HTTP hook's answer is read.
const maxHookAnswer = 10 << 10

// runHook runs a lifecycle hook to its end.
func (w *worker) runHook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id, podIP string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		r, err := w.a.runtime.Exec(ctx, id, h.Exec.Command, 0)
		if err != nil {
			return fmt.Errorf("command %q: %s", h.Exec.Command, runtime.Detail(err))
		}
		if r.ExitCode != 0 {
			return fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), r.ExitCode, r.Stderr)
		}
		return nil
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		}
	case h.HTTPGet != nil:
		return w.httpHook(ctx, c, podIP, h.HTTPGet)
	case h.TCPSocket != nil:
		return fmt.Errorf("tcpSocket hooks are not supported")
	}
	return fmt.Errorf("invalid handler")
}

func (w *worker) httpHook(ctx context.Context, c *corev1.Container, podIP string, g *corev1.HTTPGetAction) error {
	port, err := probe.Port(g.Port, c)
	if err != nil {
		return err
	}
	host := g.Host
	if host == "" {
		host = podIP
	}
	scheme := "http"
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(port))+"/"+strings.TrimPrefix(g.Path, "/"), nil)
	if err != nil {
		return fmt.Errorf("cannot make hook request: %w", err)
	}
	for _, hd := range g.HTTPHeaders {
		req.Header.Add(hd.Name, hd.Value)
		if hd.Name == "Host" {
			req.Host = hd.Value
		}
	}
	resp, err := w.a.hooks.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHookAnswer))
	if err != nil {
		return fmt.Errorf("cannot read hook's answer: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP status %d: %s", resp.StatusCode, body)
	}
	return nil
}
