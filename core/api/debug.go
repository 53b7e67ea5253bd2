package api

import (
	"net/http"
	"strings"
)

// serveDebug answers /debug/api_priority_and_fairness/….
func (s *Server) serveDebug(c *call) error {
	name, ok := strings.CutPrefix(c.route.path, "/debug/api_priority_and_fairness/")
	if !ok {
		return pathNotFound()
	}
	if err := readOnly(c); err != nil {
		return err
	}
	var b strings.Builder
	known, err := s.flow.Dump(&b, name, c.query("includeRequestDetails") != "")
	switch {
	case !known:
		return pathNotFound()
	case err != nil:
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.WriteHeader(http.StatusOK)
	_, err = c.w.Write([]byte(b.String()))
	return clientGone(err)
}
