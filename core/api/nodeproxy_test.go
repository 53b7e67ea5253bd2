package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
)

// agent plays a node agent: it says what it was asked and echoes upgraded
// connections.
func agent(t *testing.T, s *apitest.Server) *httptest.Server {
	t.Helper()
	a := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<a href="/next">%s</a>`, r.Header.Get("X-Forwarded-Uri"))
			return
		case "/moved":
			http.Redirect(w, r, "/there?a=b", http.StatusFound)
			return
		}
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprintf(w, "%s %s?%s as %s auth=%q", r.Method, r.URL.Path, r.URL.RawQuery, r.TLS.PeerCertificates[0].Subject.CommonName, r.Header.Get("Authorization"))
			return
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Path: %s\r\n\r\n", r.Header.Get("Upgrade"), r.URL.RequestURI())
		line, err := buf.ReadString('\n')
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(conn, "echo %s", line)
	}))
	a.TLS = &tls.Config{Certificates: []tls.Certificate{s.PKI.Kubelet.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.PKI.Pool()}
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func nodeWith(t *testing.T, s *apitest.Server, addr net.Addr) {
	t.Helper()
	ctx := context.Background()
	if _, err := client.Create(ctx, s.Client, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}); err != nil {
		t.Fatal(err)
	}
	tcp := addr.(*net.TCPAddr)
	if _, err := client.Modify(ctx, s.Client, "", "n", "status", func(n *corev1.Node) (bool, error) {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: tcp.IP.String()}}
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(tcp.Port)
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	p := pod("p")
	p.Namespace, p.Spec.NodeName = "default", "n"
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "i"})
	if _, err := client.Create(ctx, s.Client, p); err != nil {
		t.Fatal(err)
	}
}

func TestNodeProxy(t *testing.T) {
	s, _ := clients(t)
	a := agent(t, s)
	nodeWith(t, s, a.Listener.Addr())
	free := pod("free")
	free.Namespace = "default"
	if _, err := client.Create(context.Background(), s.Client, free); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/api/v1/namespaces/default/pods/free/log":                      {200, ``},
		"/api/v1/namespaces/default/pods/free/exec?command=a&stdout=1":  {400, `pod free does not have a host assigned`},
		"/api/v1/namespaces/default/pods/p/log?container=c&tailLines=5": {200, `GET /containerLogs/default/p/c?tailLines=5 as kube-apiserver-kubelet-client auth=""`},
		"/api/v1/namespaces/default/pods/p/log":                         {400, `a container name must be specified for pod p, choose one of: [c d]`},
		"/api/v1/namespaces/default/pods/p/log?container=x":             {400, `container x is not valid for pod p`},
		"/api/v1/namespaces/default/pods/p/log?container=c&tailLines=x": {400, `strconv.ParseInt: parsing`},
		"/api/v1/nodes/n/proxy/stats/summary?a=b":                       {200, `GET /stats/summary?a=b`},
		"/api/v1/nodes/none/proxy/stats":                                {404, `nodes \"none\" not found`},
		"/api/v1/namespaces/default/pods/p/exec?container=c":            {400, `you must specify at least one command`},
	} {
		code, _, body := ask(t, s, "GET", path, "")
		if code != want.code || !strings.Contains(string(body), want.text) {
			t.Errorf("%s: %d %s, want %d %s", path, code, body, want.code, want.text)
		}
	}
}

// What a proxied server links and redirects to stays below the proxy's path.
func TestProxyRewrites(t *testing.T) {
	s, _ := clients(t)
	nodeWith(t, s, agent(t, s).Listener.Addr())
	const below = "/api/v1/nodes/n/proxy"
	code, _, body := ask(t, s, "GET", below+"/page", "")
	if want := fmt.Sprintf(`<a href="%[1]s/next">%[1]s/page</a>`, below); code != 200 || string(body) != want {
		t.Errorf("%d %s, want %s", code, body, want)
	}
	h := s.HTTP(t)
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, f := range []struct {
		method, path string
		code         int
		to           string
	}{
		{"GET", below + "/moved", 302, below + "/there?a=b"},
		{"GET", below + "?a=b", 301, below + "/?a=b"},
		{"HEAD", below, 301, below + "/"},
		{"POST", below, 200, ""},
		{"OPTIONS", below, 200, ""},
	} {
		req, err := http.NewRequest(f.method, s.URL+f.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); resp.StatusCode != f.code || got != f.to {
			t.Errorf("%s %s: %d to %q, want %d to %q", f.method, f.path, resp.StatusCode, got, f.code, f.to)
		}
	}
}

func TestUpgradePassthrough(t *testing.T) {
	s, _ := clients(t)
	a := agent(t, s)
	nodeWith(t, s, a.Listener.Addr())
	for _, protocol := range []string{"websocket", "SPDY/3.1"} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{
			RootCAs: s.PKI.Pool(), Certificates: []tls.Certificate{s.PKI.Admin.TLS()}, NextProtos: []string{"http/1.1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/p/exec?container=c&command=sh&command=-i&stdin=true&stdout=true&tty=true HTTP/1.1\r\n"+
			"Host: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 101 || res.Header.Get("Upgrade") != protocol ||
			res.Header.Get("X-Path") != "/exec/default/p/c?command=sh&command=-i&input=1&output=1&tty=1" {
			body, _ := io.ReadAll(res.Body)
			t.Errorf("%s: %d %v %s", protocol, res.StatusCode, res.Header, body)
			continue
		}
		fmt.Fprint(conn, "hello\n")
		if line, err := r.ReadString('\n'); err != nil || line != "echo hello\n" {
			t.Errorf("%s: %q %v", protocol, line, err)
		}
		conn.Close()
	}
}

func TestServiceProxyWithoutEndpoints(t *testing.T) {
	s, _ := clients(t)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"a": "b"}}}
	made, err := client.Create(context.Background(), s.Client, svc)
	if err != nil {
		t.Fatal(err)
	}
	if made.Spec.ClusterIP == "" {
		t.Errorf("no cluster address: %+v", made.Spec)
	}
	code, _, body := ask(t, s, "GET", "/api/v1/namespaces/default/services/s/proxy/", "")
	if code != 503 || !strings.Contains(string(body), `no endpoints available for service \"s\"`) {
		t.Errorf("got %d %s", code, body)
	}
}
