package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checks are the server's own and the configured ones.
func (s *Server) checks() []Check {
	own := []Check{
		{Name: "ping", Live: true, OK: func(context.Context) error { return nil }},
		{Name: "etcd", Live: true, OK: s.store.Healthy},
		{Name: "shutdown", OK: func(context.Context) error {
			select {
			case <-s.stopping:
				return errors.New("process is shutting down")
			default:
				return nil
			}
		}},
	}
	return append(own, s.cfg.Checks...)
}

// serveHealth answers /healthz, /livez and /readyz and their single checks.
func (s *Server) serveHealth(c *call) error {
	if err := readOnly(c); err != nil {
		return err
	}
	endpoint, one, single := strings.Cut(strings.Trim(c.route.path, "/"), "/")
	query := c.r.URL.Query()
	excluded := query["exclude"]
	ctx, cancel := context.WithTimeout(c.r.Context(), 10*time.Second)
	defer cancel()

	var b strings.Builder
	var failed []string
	found := false
	for _, check := range s.checks() {
		if endpoint == "livez" && !check.Live || single && check.Name != one {
			continue
		}
		found = true
		if slices.Contains(excluded, check.Name) {
			excluded = slices.DeleteFunc(slices.Clone(excluded), func(e string) bool { return e == check.Name })
			fmt.Fprintf(&b, "[+]%s excluded: ok\n", check.Name)
			continue
		}
		if err := check.OK(ctx); err != nil {
			failed = append(failed, check.Name)
			// The reason may hold what the public must not read.
			fmt.Fprintf(&b, "[-]%s failed: reason withheld\n", check.Name)
			s.tel.Log.Warn("health check failed", "endpoint", endpoint, "check", check.Name, "error", err)
			continue
		}
		fmt.Fprintf(&b, "[+]%s ok\n", check.Name)
	}
	if !found {
		return errNoPage
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if len(excluded) > 0 {
		unknown := slices.Clone(excluded)
		slices.Sort(unknown)
		for i, e := range unknown {
			unknown[i] = strconv.Quote(e)
		}
		fmt.Fprintf(&b, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(unknown, ","))
	}
	code, text := http.StatusOK, "ok"
	_, verbose := query["verbose"]
	switch {
	case len(failed) > 0:
		code, text = http.StatusInternalServerError, fmt.Sprintf("%s%s check failed\n", b.String(), endpoint)
	case verbose && !single:
		text = fmt.Sprintf("%s%s check passed\n", b.String(), endpoint)
	}
	c.w.WriteHeader(code)
	_, err := c.w.Write([]byte(text))
	return clientGone(err)
}
