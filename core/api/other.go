package api

import (
	"encoding/json"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeversion "k8s.io/apimachinery/pkg/version"
)

// serveOther answers what is no resource.
func (s *Server) serveOther(c *call) error {
	path := strings.TrimSuffix(c.route.path, "/")
	switch path {
	case "":
		return s.serveIndex(c)
	case "/version":
		return s.serveVersion(c)
	case "/metrics":
		promhttp.HandlerFor(s.tel.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
		return nil
	case "/.well-known/openid-configuration", "/openid/v1/jwks":
		if s.cfg.OIDC == nil {
			return pathNotFound()
		}
		s.cfg.OIDC.ServeHTTP(c.w, c.r)
		return nil
	}
	switch first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); first {
	case "healthz", "livez", "readyz":
		return s.serveHealth(c)
	case "api", "apis":
		return s.serveDiscovery(c)
	case "debug":
		return s.serveDebug(c)
	case "openapi":
		if s.cfg.OpenAPI == nil {
			return pathNotFound()
		}
		s.cfg.OpenAPI.ServeHTTP(c.w, c.r)
		return nil
	}
	return errNoPage
}

// noPage answers what is no path of the API.
func noPage(c *call) {
	h := c.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(http.StatusNotFound)
	// The client may have gone; there is nobody to tell.
	_, _ = c.w.Write([]byte(errNoPage.Error() + "\n"))
}

// readOnly refuses anything but GET and HEAD on a non-resource path.
func readOnly(c *call) error {
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	return methodNotAllowed()
}

func (s *Server) serveIndex(c *call) error {
	paths := []string{"/.well-known/openid-configuration", "/api", "/api/v1", "/apis"}
	for _, g := range s.groups() {
		if g.Name == "" {
			continue
		}
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+g.Name+"/"+v.Version)
		}
	}
	paths = append(paths, "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version")
	return s.serveJSON(c, metav1.RootPaths{Paths: paths})
}

func (s *Server) serveJSON(c *call, v any) error {
	if err := readOnly(c); err != nil {
		return err
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", mediaJSON)
	h.Set("Content-Length", strconv.Itoa(len(out)))
	c.w.WriteHeader(http.StatusOK)
	_, err = c.w.Write(out)
	return clientGone(err)
}

// serveVersion answers in JSON only, and says so to who does not take it.
func (s *Server) serveVersion(c *call) error {
	accept := strings.Join(c.r.Header.Values("Accept"), ",")
	if accept != "" && !slices.ContainsFunc(parseAccept(accept), func(a clause) bool { return a.media == mediaJSON || a.media == "*/*" }) {
		return notAcceptable(mediaJSON)
	}
	return s.serveJSON(c, Version())
}

// The version of Kubernetes whose API this is.
const (
	kubeMajor, kubeMinor = "1", "37"
	kubeRelease          = "v1.37.2+binnacle"
)

// Version is what /version answers.
func Version() kubeversion.Info {
	v := kubeversion.Info{
		Major: kubeMajor, Minor: kubeMinor, GitVersion: kubeRelease, GitTreeState: "clean",
		EmulationMajor: kubeMajor, EmulationMinor: kubeMinor, MinCompatibilityMajor: kubeMajor, MinCompatibilityMinor: "36",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, kv := range info.Settings {
		switch {
		case kv.Key == "vcs.revision":
			v.GitCommit = kv.Value
		case kv.Key == "vcs.time":
			v.BuildDate = kv.Value
		case kv.Key == "vcs.modified" && kv.Value == "true":
			v.GitTreeState = "dirty"
		}
	}
	return v
}

// warningHeader renders a warning as RFC 7234 has it.
func warningHeader(text string) (string, bool) {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if text == "" {
		return "", false
	}
	if len(text) > 4096 {
		text = strings.ToValidUTF8(text[:4096], "")
	}
	text = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
	return `299 - "` + text + `"`, true
}
