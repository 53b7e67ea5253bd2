package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	proxyutil "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/admission"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/store"
)

// kubeletPort is the node agent's unless the node says otherwise.
const kubeletPort = 10250

// nodeProxy passes requests on to node agents, pods and services. Upgraded
// connections (WebSocket, SPDY) are passed through byte for byte.
type nodeProxy struct {
	s *Server
	// toNodes authenticates as the API server; toPods does not verify, as
	// upstream: a pod's certificate is its own affair.
	toNodes, toPods *http.Transport
}

func newNodeProxy(s *Server) *nodeProxy {
	transport := func() *http.Transport {
		return &http.Transport{
			DialContext: s.cfg.NodeDial, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 25,
			IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: false,
		}
	}
	p := &nodeProxy{s: s, toNodes: transport(), toPods: transport()}
	if s.cfg.NodeTLS != nil {
		p.toNodes.TLSClientConfig = s.cfg.NodeTLS.Clone()
		p.toPods.TLSClientConfig = s.cfg.NodeTLS.Clone()
		p.toPods.TLSClientConfig.Certificates = nil
		p.toPods.TLSClientConfig.RootCAs = nil
		p.toPods.TLSClientConfig.InsecureSkipVerify = true
	}
	return p
}

// serve answers a connecting subresource.
func (p *nodeProxy) serve(c *call, q *request) error {
	ctx := c.r.Context()
	// A WebSocket opens with GET; what it does is a create all the same.
	if q.verb == "get" && (q.sub.Name == "exec" || q.sub.Name == "attach" || q.sub.Name == "portforward") {
		a := c.attrs
		a.Verb = "create"
		if err := p.s.authorize(ctx, a); err != nil {
			return err
		}
	}
	target, transport, err := p.target(ctx, c, q)
	if err != nil {
		return err
	}
	if target == nil {
		c.w.Header().Set("Content-Type", "text/plain")
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	if q.sub.Name != "log" {
		attrs := p.s.admissionAttributes(q, admission.Connect, nil, nil)
		err := p.s.admission.Mutate(ctx, attrs)
		if err == nil {
			err = p.s.admission.Validate(ctx, attrs)
		}
		attrs.Done(err == nil)
		if err != nil {
			return err
		}
	}
	if q.sub.Name == "proxy" && c.route.rest == "" && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead) && c.r.Header.Get("Upgrade") == "" {
		// The links of a page at the root are below the path, not beside it.
		below := &url.URL{Path: c.r.URL.Path + "/", RawQuery: c.r.URL.RawQuery}
		c.w.Header().Set("Location", below.String())
		c.w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	p.pass(c, q, target, transport)
	return nil
}

// target is where the request goes.
func (p *nodeProxy) target(ctx context.Context, c *call, q *request) (*url.URL, *http.Transport, error) {
	switch q.kind.Resource + "/" + q.sub.Name {
	case "nodes/proxy":
		u, err := p.nodeURL(ctx, q.key.Name)
		if err != nil {
			return nil, nil, err
		}
		u.Path, u.RawQuery = "/"+c.route.rest, c.r.URL.RawQuery
		return u, p.toNodes, nil
	case "pods/proxy":
		u, err := p.podURL(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		u.Path, u.RawQuery = "/"+strings.TrimPrefix(c.route.rest, "/"), c.r.URL.RawQuery
		return u, p.toPods, nil
	case "services/proxy":
		u, err := p.serviceURL(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		u.Path, u.RawQuery = "/"+strings.TrimPrefix(c.route.rest, "/"), c.r.URL.RawQuery
		return u, p.toPods, nil
	}
	if q.kind.Resource != "pods" {
		return nil, nil, pathNotFound()
	}
	u, err := p.streamURL(ctx, c, q)
	return u, p.toNodes, err
}

// streamURL is the node agent's path for log, exec, attach and portforward; nil
// when there is nothing to stream.
func (p *nodeProxy) streamURL(ctx context.Context, c *call, q *request) (*url.URL, error) {
	cur, err := p.s.latest(ctx, q)
	if err != nil {
		return nil, err
	}
	pod := cur.(*corev1.Pod)
	query := c.r.URL.Query()
	if q.sub.Name == "log" {
		if err := checkLogOptions(pod.Name, query); err != nil {
			return nil, err
		}
	}
	name := ""
	if q.sub.Name != "portforward" {
		if name, err = chooseContainer(pod, query.Get("container"), q.sub.Name); err != nil {
			return nil, err
		}
	}
	if pod.Spec.NodeName == "" {
		if q.sub.Name == "log" {
			// The log of a pod that is nowhere yet is empty.
			return nil, nil
		}
		return nil, badRequest("pod %s does not have a host assigned", pod.Name)
	}
	u, err := p.nodeURL(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	out := url.Values{}
	switch q.sub.Name {
	case "portforward":
		for _, v := range append(query["ports"], query["port"]...) {
			out.Add("port", v)
		}
		u.Path = path.Join("/portForward", pod.Namespace, pod.Name)
		u.RawQuery = out.Encode()
		return u, nil
	case "exec":
		if len(query["command"]) == 0 {
			return nil, badRequest("you must specify at least one command for the container")
		}
	}
	if q.sub.Name == "log" {
		for k, v := range query {
			if k != "container" && k != "pretty" && k != "insecureSkipTLSVerifyBackend" {
				out[k] = v
			}
		}
		u.Path = path.Join("/containerLogs", pod.Namespace, pod.Name, name)
		u.RawQuery = out.Encode()
		return u, nil
	}
	// The node agent's parameters are upstream's: input, output, error, tty.
	for from, to := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if isTrue(query, from) && query.Get(from) != "" {
			out.Set(to, "1")
		}
	}
	if len(out) == 0 {
		return nil, badRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	for _, cmd := range query["command"] {
		out.Add("command", cmd)
	}
	u.Path = path.Join("/"+q.sub.Name, pod.Namespace, pod.Name, name)
	u.RawQuery = out.Encode()
	return u, nil
}

// checkLogOptions answers what a log cannot be asked for, in upstream's words.
func checkLogOptions(pod string, q url.Values) error {
	var errs field.ErrorList
	for _, option := range []struct {
		name  string
		least int64
		text  string
	}{
		{"tailLines", 0, "must be greater than or equal to 0"},
		{"limitBytes", 1, "must be greater than 0"},
		{"sinceSeconds", 1, "must be greater than 0"},
	} {
		text := q.Get(option.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return badRequest("%v", err)
		}
		if n < option.least {
			errs = append(errs, field.Invalid(field.NewPath(option.name), n, option.text))
		}
	}
	if q.Get("sinceSeconds") != "" && q.Get("sinceTime") != "" {
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, pod, errs)
	}
	return nil
}

func chooseContainer(pod *corev1.Pod, asked, verb string) (string, error) {
	var regular, initial, ephemeral []string
	for _, c := range pod.Spec.Containers {
		regular = append(regular, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		initial = append(initial, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, c.Name)
	}
	all := slices.Concat(regular, initial, ephemeral)
	switch {
	case asked != "" && slices.Contains(all, asked):
		return asked, nil
	case asked != "":
		return "", badRequest("container %s is not valid for pod %s", asked, pod.Name)
	case len(regular) == 1:
		return regular[0], nil
	case pod.Annotations["kubectl.kubernetes.io/default-container"] != "" && verb != "log":
		if d := pod.Annotations["kubectl.kubernetes.io/default-container"]; slices.Contains(all, d) {
			return d, nil
		}
	}
	what := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.Name, regular)
	if len(initial) > 0 {
		what += fmt.Sprintf(" or one of the init containers: %v", initial)
	}
	return "", badRequest("%s", what)
}

// nodeURL is the base of a node agent.
func (p *nodeProxy) nodeURL(ctx context.Context, name string) (*url.URL, error) {
	if p.s.cfg.NodeTLS == nil {
		return nil, apierrors.NewServiceUnavailable("this server has no credentials for node agents")
	}
	name, port := splitPort(name)
	e, err := p.s.store.Get(ctx, client.Resource{Resource: "nodes"}, client.Key{Name: name}, store.Any())
	if err != nil {
		return nil, err
	}
	node := e.Object.(*corev1.Node)
	if port == "" {
		n := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
		if n == 0 {
			n = kubeletPort
		}
		port = strconv.Itoa(n)
	}
	for _, t := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalIP, corev1.NodeExternalDNS} {
		for _, a := range node.Status.Addresses {
			if a.Type == t && a.Address != "" {
				return &url.URL{Scheme: "https", Host: net.JoinHostPort(a.Address, port)}, nil
			}
		}
	}
	return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %q has no address", name))
}

func splitPort(name string) (string, string) {
	host, port, _ := strings.Cut(name, ":")
	return host, port
}

// splitName reads [scheme:]name[:port].
func splitName(s string) (scheme, name, port string, err error) {
	parts := strings.Split(s, ":")
	switch len(parts) {
	case 1:
		return "http", parts[0], "", nil
	case 2:
		return "http", parts[0], parts[1], nil
	case 3:
		if parts[0] == "" {
			parts[0] = "http"
		}
		if parts[0] == "http" || parts[0] == "https" {
			return parts[0], parts[1], parts[2], nil
		}
	}
	return "", "", "", badRequest("invalid request %q: want [scheme:]name[:port]", s)
}

func (p *nodeProxy) podURL(ctx context.Context, q *request) (*url.URL, error) {
	scheme, name, port, err := splitName(q.key.Name)
	if err != nil {
		return nil, err
	}
	e, err := p.s.store.Get(ctx, q.gr(), client.Key{Namespace: q.key.Namespace, Name: name}, store.Latest())
	if err != nil {
		return nil, err
	}
	pod := e.Object.(*corev1.Pod)
	if port == "" {
		for _, c := range pod.Spec.Containers {
			if len(c.Ports) > 0 {
				port = strconv.Itoa(int(c.Ports[0].ContainerPort))
				break
			}
		}
	}
	if pod.Status.PodIP == "" {
		return nil, badRequest("pod %q has no address", name)
	}
	// Who may write a pod's status must not reach what listens on this machine
	// only, or the cloud's metadata, through this server.
	if ip, err := netip.ParseAddr(pod.Status.PodIP); err != nil || !ip.Unmap().IsGlobalUnicast() {
		return nil, badRequest("address not allowed")
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return &url.URL{Scheme: scheme, Host: net.JoinHostPort(pod.Status.PodIP, port)}, nil
}

// serviceURL picks a ready endpoint of a service.
func (p *nodeProxy) serviceURL(ctx context.Context, q *request) (*url.URL, error) {
	scheme, name, port, err := splitName(q.key.Name)
	if err != nil {
		return nil, err
	}
	e, err := p.s.store.Get(ctx, q.gr(), client.Key{Namespace: q.key.Namespace, Name: name}, store.Latest())
	if err != nil {
		return nil, err
	}
	svc := e.Object.(*corev1.Service)
	portName := ""
	found := false
	for _, sp := range svc.Spec.Ports {
		if port == "" && len(svc.Spec.Ports) == 1 || sp.Name == port && port != "" || strconv.Itoa(int(sp.Port)) == port {
			portName, found = sp.Name, true
			break
		}
	}
	if !found {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, name))
	}
	snap, err := p.s.store.Snapshot(ctx, client.Resource{Group: discoveryv1.GroupName, Resource: "endpointslices"}, store.Any())
	if err != nil {
		return nil, err
	}
	filter := store.Filter{Namespace: q.key.Namespace, Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: name})}
	for e := range snap.Select(filter) {
		slice := e.Object.(*discoveryv1.EndpointSlice)
		for _, sp := range slice.Ports {
			if sp.Port == nil || sp.Name != nil && *sp.Name != portName || sp.Name == nil && portName != "" {
				continue
			}
			for _, ep := range slice.Endpoints {
				if len(ep.Addresses) > 0 && (ep.Conditions.Ready == nil || *ep.Conditions.Ready) {
					return &url.URL{Scheme: scheme, Host: net.JoinHostPort(ep.Addresses[0], strconv.Itoa(int(*sp.Port)))}, nil
				}
			}
		}
	}
	return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
}

// pass hands the request over.
func (p *nodeProxy) pass(c *call, q *request, target *url.URL, transport *http.Transport) {
	prefix := strings.TrimSuffix(c.route.path, "/")
	if c.route.rest != "" && c.route.rest != "/" {
		prefix = strings.TrimSuffix(strings.TrimSuffix(c.route.path, c.route.rest), "/")
	}
	var way http.RoundTripper = transport
	if q.sub.Name == "proxy" {
		// Redirects and the links of a page stay below the proxy's path.
		way = &proxyutil.Transport{PathPrepend: prefix, RoundTripper: transport}
	}
	rp := &httputil.ReverseProxy{
		Transport:     way,
		FlushInterval: -1,
		ErrorLog:      nil,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL = target
			r.Out.Host = target.Host
			h := r.Out.Header
			// The caller's credentials are for this server only.
			h.Del("Authorization")
			auth.StripImpersonation(h)
			stripTokenProtocol(h)
			r.SetXForwarded()
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil && c.w.code == 0 {
				c.w.code = 499
				return
			}
			if !apierrors.IsServiceUnavailable(err) {
				err = apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
			}
			p.s.fail(c, err)
		},
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	go p.s.endOnStop(ctx, cancel)
	rp.ServeHTTP(c.w, c.r.WithContext(ctx))
}

// stripTokenProtocol takes bearer tokens out of the offered WebSocket
// sub-protocols.
func stripTokenProtocol(h http.Header) {
	const name = "Sec-Websocket-Protocol"
	lines := h.Values(name)
	if len(lines) == 0 {
		return
	}
	var keep []string
	for _, line := range lines {
		for proto := range strings.SplitSeq(line, ",") {
			if proto = strings.TrimSpace(proto); proto != "" && !strings.HasPrefix(proto, auth.WebSocketTokenProtocol) {
				keep = append(keep, proto)
			}
		}
	}
	h.Del(name)
	if len(keep) > 0 {
		h.Set(name, strings.Join(keep, ", "))
	}
}
