package server

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/node/runtime"
)

// streams says which streams a client wants; both spellings are in use.
type streams struct {
	stdin, stdout, stderr, tty bool
}

func streamsOf(q url.Values) (streams, error) {
	on := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return q.Get(n) == "1" || q.Get(n) == "true" })
	}
	s := streams{on("input", "stdin"), on("output", "stdout"), on("error", "stderr"), on("tty")}
	if s.tty && s.stderr {
		s.stderr = false // a terminal has one output
	}
	if !s.stdin && !s.stdout && !s.stderr {
		return s, fmt.Errorf("you must specify at least 1 of stdin, stdout, stderr")
	}
	return s, nil
}

// running returns the ID of the container of the request, which must run.
func (s *Server) running(w http.ResponseWriter, r *http.Request) (string, bool) {
	p, ok := s.find(w, r)
	if !ok {
		return "", false
	}
	name := r.PathValue("container")
	list := p.instances(name)
	if len(list) == 0 || list[0].State != runtime.Running {
		http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusNotFound)
		return "", false
	}
	return list[0].ID, true
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	id, ok := s.running(w, r)
	if !ok {
		return
	}
	st, err := streamsOf(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u, err := s.rt.ExecURL(r.Context(), &cri.ExecRequest{ContainerId: id, Cmd: r.URL.Query()["command"],
		Tty: st.tty, Stdin: st.stdin, Stdout: st.stdout, Stderr: st.stderr})
	s.command(w, r, u, err, st)
}

// command connects the client of an exec or attach with the runtime.
func (s *Server) command(w http.ResponseWriter, r *http.Request, to string, err error, st streams) {
	if err != nil || !wantsV5(r) {
		s.pass(w, r, to, err)
		return
	}
	u, err := url.Parse(to)
	if err != nil {
		s.pass(w, r, to, err)
		return
	}
	s.translate(w, r, u, st)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	id, ok := s.running(w, r)
	if !ok {
		return
	}
	st, err := streamsOf(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u, err := s.rt.AttachURL(r.Context(), &cri.AttachRequest{ContainerId: id, Tty: st.tty, Stdin: st.stdin, Stdout: st.stdout, Stderr: st.stderr})
	s.command(w, r, u, err, st)
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r)
	if !ok {
		return
	}
	req := &cri.PortForwardRequest{}
	for _, v := range strings.FieldsFunc(strings.Join(append(r.URL.Query()["port"], r.URL.Query()["ports"]...), ","), func(c rune) bool { return c == ',' }) {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n == 0 {
			http.Error(w, fmt.Sprintf("invalid port %q", v), http.StatusBadRequest)
			return
		}
		req.Port = append(req.Port, int32(n))
	}
	i := slices.IndexFunc(p.Sandboxes, func(b runtime.Sandbox) bool { return b.Ready })
	if i < 0 {
		http.Error(w, fmt.Sprintf("pod %q is not running", p.Pod.Name), http.StatusNotFound)
		return
	}
	req.PodSandboxId = p.Sandboxes[i].ID
	to, err := s.rt.PortForwardURL(r.Context(), req)
	if err == nil && wantsTunnel(r) {
		if u, err := url.Parse(to); err == nil {
			s.tunnel(w, r, u)
			return
		}
	}
	s.pass(w, r, to, err)
}

// pass hands the connection to the runtime's streaming server, upgrade
// included.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, to string, err error) {
	if err != nil {
		http.Error(w, runtime.Detail(err), http.StatusInternalServerError)
		return
	}
	u, err := url.Parse(to)
	if err != nil {
		http.Error(w, fmt.Sprintf("cannot use the runtime's streaming address %q: %v", to, err), http.StatusInternalServerError)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL, p.Out.Host = u, u.Host
			p.Out.Header.Del("Authorization")
			// Browsers' origins mean nothing to the runtime.
			p.Out.Header.Del("Origin")
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			http.Error(w, fmt.Sprintf("cannot reach the container runtime's streams: %v", err), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// run runs a command to its end and answers its output.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	id, ok := s.running(w, r)
	if !ok {
		return
	}
	res, err := s.rt.Exec(r.Context(), id, strings.Fields(r.URL.Query().Get("cmd")), 0)
	if err != nil {
		http.Error(w, runtime.Detail(err), http.StatusInternalServerError)
		return
	}
	if res.ExitCode != 0 {
		http.Error(w, fmt.Sprintf("command exited with %d: %s%s", res.ExitCode, res.Stdout, res.Stderr), http.StatusInternalServerError)
		return
	}
	w.Write(res.Stdout)
	w.Write(res.Stderr)
}
