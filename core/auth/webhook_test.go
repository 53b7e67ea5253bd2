package auth

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// counting is a verifier that counts what it is asked. It is used by one
// goroutine at a time.
type counting struct{ asked int }

func (c *counting) VerifyToken(_ context.Context, token string, audiences []string) (*User, []string, bool, error) {
	c.asked++
	switch token {
	case "good":
		return &User{Name: "u"}, audiences, true, nil
	case "bad":
		return nil, nil, false, errors.New("bad")
	}
	return nil, nil, false, nil
}

// hook is a server that a kubeconfig names.
func hook(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	k := clientcmdapi.NewConfig()
	k.Clusters["h"] = &clientcmdapi.Cluster{Server: s.URL + "/review", CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
	k.AuthInfos["h"] = &clientcmdapi.AuthInfo{Token: "hook-secret"}
	k.Contexts["h"] = &clientcmdapi.Context{Cluster: "h", AuthInfo: "h"}
	k.CurrentContext = "h"
	text, err := clientcmd.Write(*k)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, string(text))
}

func TestTokenWebhook(t *testing.T) {
	var calls atomic.Int32
	kubeconfig := hook(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var review authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.APIVersion != "authentication.k8s.io/v1" || review.Kind != "TokenReview" ||
			r.URL.Path != "/review" || r.Header.Get("Authorization") != "Bearer hook-secret" {
			http.Error(w, fmt.Sprint("not what was expected: ", err), http.StatusBadRequest)
			return
		}
		st := &review.Status
		switch review.Spec.Token {
		case "jane":
			st.Authenticated = true
			st.User = authenticationv1.UserInfo{Username: "jane", UID: "7", Groups: []string{"g"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}
		case "aware":
			st.Authenticated, st.User.Username, st.Audiences = true, "aware", []string{"vault"}
		case "expired":
			st.Error = "the token has expired"
		case "teapot":
			http.Error(w, "short and stout", http.StatusTeapot)
			return
		case "garbage":
			w.Write([]byte("<html>"))
			return
		case "huge":
			w.Write([]byte(`{"x":"` + strings.Repeat("x", maxReviewBytes) + `"}`))
			return
		}
		json.NewEncoder(w).Encode(review)
	})
	v, err := NewTokenWebhook(TokenWebhookConfig{Kubeconfig: kubeconfig}, []string{"api"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jane := &User{Name: "jane", UID: "7", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}}
	for _, tc := range []struct {
		token    string
		audience string
		want     *User
		err      string
	}{
		{"jane", "api", jane, ""},
		{"jane", "vault", nil, ""}, // a server that knows no audiences answers for the API's
		{"aware", "vault", &User{Name: "aware"}, ""},
		{"aware", "api", nil, ""},
		{"nobody", "api", nil, ""},
		{"expired", "api", nil, "the token has expired"},
		{"teapot", "api", nil, "the webhook answered 418: short and stout"},
		{"garbage", "api", nil, "not a review"},
		{"huge", "api", nil, "more than 1048576 bytes"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		u, matched, ok, err := v.VerifyToken(ctx, tc.token, []string{tc.audience})
		cancel()
		if tc.token == "huge" && errors.Is(err, context.DeadlineExceeded) {
			continue // it is tried again
		}
		if tc.err != "" {
			if ok || err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %t %v", tc.token, ok, err)
			}
			continue
		}
		if err != nil || ok != (tc.want != nil) || !reflect.DeepEqual(u, tc.want) || ok && !reflect.DeepEqual(matched, []string{tc.audience}) {
			t.Errorf("%s for %s: %+v %q %t %v", tc.token, tc.audience, u, matched, ok, err)
		}
	}
	before := calls.Load()
	if _, _, ok, err := v.VerifyToken(t.Context(), "jane", []string{"api"}); !ok || err != nil || calls.Load() != before {
		t.Errorf("asked again about jane: %t %v", ok, err)
	}
	for want, cfg := range map[string]TokenWebhookConfig{
		"kubeconfig is not set": {}, "cannot use kubeconfig /none": {Kubeconfig: "/none"},
	} {
		if _, err := NewTokenWebhook(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestAuthorizationWebhook(t *testing.T) {
	var (
		calls atomic.Int32
		last  atomic.Pointer[authorizationv1.SubjectAccessReviewSpec]
	)
	kubeconfig := hook(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Kind != "SubjectAccessReview" {
			http.Error(w, "not a review", http.StatusBadRequest)
			return
		}
		last.Store(review.Spec.DeepCopy())
		switch review.Spec.User {
		case "alice":
			review.Status.Allowed = true
		case "mallory":
			review.Status = authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "no"}
		case "both":
			review.Status = authorizationv1.SubjectAccessReviewStatus{Denied: true, Allowed: true}
		case "broken":
			http.Error(w, "out of order", http.StatusNotImplemented)
			return
		}
		json.NewEncoder(w).Encode(review)
	})
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	open, err := NewAuthorizationWebhook(AuthorizationWebhookConfig{Name: "hook", Kubeconfig: kubeconfig}, m)
	if err != nil {
		t.Fatal(err)
	}
	shut, err := NewAuthorizationWebhook(AuthorizationWebhookConfig{Kubeconfig: kubeconfig, FailurePolicy: "Deny"}, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		z      *AuthorizationWebhook
		user   string
		d      Decision
		reason string
		err    string
	}{
		{open, "alice", Allow, "", ""}, {open, "bob", NoOpinion, "", ""}, {open, "mallory", Deny, "no", ""},
		{open, "both", Deny, "", "both allow and deny"}, {open, "broken", NoOpinion, "", `authorization webhook "hook": the webhook answered 501: out of order`},
		{shut, "broken", Deny, "", "out of order"},
	} {
		// A server that fails is asked again, for longer than a test may wait.
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		d, reason, err := tc.z.Authorize(ctx, Attributes{User: &User{Name: tc.user}, Verb: "get", Version: "v1", Resource: "pods", Namespace: "n"})
		cancel()
		if d != tc.d || reason != tc.reason || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v %q %v", tc.user, d, reason, err)
		}
	}
	before := calls.Load()
	for range 3 {
		open.Authorize(t.Context(), Attributes{User: &User{Name: "alice"}, Verb: "get", Version: "v1", Resource: "pods", Namespace: "n"})
	}
	if calls.Load() != before {
		t.Error("asked again about alice")
	}
	if n := testutil.ToFloat64(m.webhooks.WithLabelValues("hook", "success")); n != 4 {
		t.Errorf("%v requests counted", n)
	}
	// What is remembered is as small for a long question.
	for range 2 {
		open.Authorize(t.Context(), Attributes{User: &User{Name: "alice"}, Verb: "get", Version: "v1", Resource: "pods", Name: strings.Repeat("x", 100<<10)})
	}
	if n := calls.Load() - before; n != 1 {
		t.Errorf("asked %d times about a long name", n)
	}
	for _, key := range open.answers.Keys() {
		if _, small := key.([32]byte); !small {
			t.Errorf("remembered under a %T", key)
		}
	}

	fieldSel, labelSel := fields.ParseSelectorOrDie("spec.nodeName=n1,status.phase!=Failed"), labels.SelectorFromSet(labels.Set{"app": "x"})
	reqs, _ := labelSel.Requirements()
	open.Authorize(t.Context(), Attributes{User: &User{Name: "carol", UID: "1", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}},
		Verb: "list", Group: "apps", Version: "v1", Resource: "deployments", Subresource: "scale", Namespace: "n", Name: "d", Fields: fieldSel.Requirements(), Labels: reqs})
	want := authorizationv1.SubjectAccessReviewSpec{User: "carol", UID: "1", Groups: []string{"g"}, Extra: map[string]authorizationv1.ExtraValue{"k": {"v"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Group: "apps", Version: "v1", Resource: "deployments", Subresource: "scale", Namespace: "n", Name: "d",
			FieldSelector: &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
				{Key: "spec.nodeName", Operator: "In", Values: []string{"n1"}}, {Key: "status.phase", Operator: "NotIn", Values: []string{"Failed"}}}},
			LabelSelector: &authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In", Values: []string{"x"}}}}}}
	if !reflect.DeepEqual(last.Load(), &want) {
		t.Errorf("asked %+v", last.Load())
	}
	open.Authorize(t.Context(), Attributes{User: &User{Name: "carol"}, Verb: "get", Path: "/metrics"})
	if spec := last.Load(); spec.ResourceAttributes != nil || spec.NonResourceAttributes.Path != "/metrics" {
		t.Errorf("asked %+v", spec)
	}
	for want, cfg := range map[string]AuthorizationWebhookConfig{
		`failurePolicy "Allow" is neither NoOpinion nor Deny`: {Kubeconfig: kubeconfig, FailurePolicy: "Allow"},
		"timeout 1m0s is not between 0 and 30s":               {Kubeconfig: kubeconfig, Timeout: metav1.Duration{Duration: time.Minute}},
		"kubeconfig is not set":                               {},
	} {
		if _, err := NewAuthorizationWebhook(cfg, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
