package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/api"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// waiting is an authenticator whose provider does not answer.
type waiting struct{}

func (waiting) Authenticate(r *http.Request) (*auth.User, bool, error) {
	<-r.Context().Done()
	return nil, false, r.Context().Err()
}

// TestAuthenticationIsBounded: finding out who asks takes no longer than the
// request may.
func TestAuthenticationIsBounded(t *testing.T) {
	s := wholeServer(t)
	srv, err := api.New(api.Config{RequestTimeout: 50 * time.Millisecond}, s.Store, s.Kinds, waiting{}, auth.Masters(), s.Chain, s.Hub.Component("bounded", "bounded"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	srv.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/api/v1/namespaces", nil))
	if w.Code != http.StatusUnauthorized || ctx.Err() != nil {
		t.Errorf("%d after the test's own end: %v", w.Code, ctx.Err())
	}
}

// undecided is an authorizer that fails.
type undecided struct{}

func (undecided) Authorize(context.Context, auth.Attributes) (auth.Decision, string, error) {
	return auth.NoOpinion, "", errors.New("the webhook is away")
}

// TestAuthorizerFails: what could not be decided is not refused for good. The
// code is upstream's.
func TestAuthorizerFails(t *testing.T) {
	s := wholeServer(t)
	srv, err := api.New(api.Config{}, s.Store, s.Kinds, admin{}, undecided{}, s.Chain, s.Hub.Component("undecided", "undecided"))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	srv.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/namespaces", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "the webhook is away") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestImpersonationIsNotPassedOn: whoever serves a group sees no header that
// it might take for a decision of this server.
func TestImpersonationIsNotPassedOn(t *testing.T) {
	s := wholeServer(t)
	var seen http.Header
	served := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() })
	srv, err := api.New(api.Config{Served: map[string]http.Handler{"served.example.com": served}},
		s.Store, s.Kinds, admin{}, auth.Masters(), s.Chain, s.Hub.Component("served", "served"))
	if err != nil {
		t.Fatal(err)
	}
	for name, users := range map[string][]string{"empty first": {"", "root"}, "impersonated": {"root"}} {
		seen = nil
		r := httptest.NewRequest("GET", "/apis/served.example.com/v1/things", nil)
		r.Header["Impersonate-User"] = users
		if name == "impersonated" {
			r.Header.Set("Impersonate-Group", auth.GroupMasters)
		}
		srv.Handler().ServeHTTP(httptest.NewRecorder(), r)
		if seen == nil || seen["Impersonate-User"] != nil || seen["Impersonate-Group"] != nil {
			t.Errorf("%s: passed on %v", name, seen)
		}
	}
}

// TestUnreadBody: a body that is announced, never sent and never read does not
// keep a connection: net/http waits for it before it answers.
func TestUnreadBody(t *testing.T) {
	s := apitest.Start(t, apitest.WithAPI(func(c *api.Config) { c.RequestTimeout = time.Second }))
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/namespaces", "/api/v1/namespaces/x/pods/y/exec"} {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}} // nothing is sent that matters
		conn, err := d.DialContext(t.Context(), "tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path, at.Host)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		if err != nil || !strings.Contains(line, " 403 ") {
			t.Errorf("%s: %q %v", path, line, err)
		}
		for err == nil {
			_, err = r.ReadByte()
		}
		if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection is kept: %v", path, err)
		}
	}
}

// TestProxyStaysOutside holds what upstream v1.36.3 answers when a pod's status
// names an address that is only this machine's.
func TestProxyStaysOutside(t *testing.T) {
	s := apitest.Start(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := client.Create(t.Context(), s.Client, pod); err != nil {
		t.Fatal(err)
	}
	h := s.HTTP(t)
	for _, ip := range []string{"127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"} {
		body := fmt.Appendf(nil, `{"status":{"podIP":%q,"podIPs":[{"ip":%[1]q}]}}`, ip)
		if _, err := client.Patch[*corev1.Pod](t.Context(), s.Client, "default", "p", types.MergePatchType, body, client.WriteOptions{Subresource: "status"}); err != nil {
			t.Logf("%s cannot be written: %v", ip, err)
			continue
		}
		resp, err := h.Get(s.URL + "/api/v1/namespaces/default/pods/p:1/proxy/")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), `"address not allowed"`) {
			t.Errorf("%s: %d %s %v", ip, resp.StatusCode, text, err)
		}
	}
}
