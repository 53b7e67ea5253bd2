package auth_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// get asks the server as the bearer of token, or anonymously.
func get(t *testing.T, s *apitest.Server, path, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.Anonymous(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func create[T client.Object](t *testing.T, s *apitest.Server, o T) T {
	t.Helper()
	stored, err := client.Create(t.Context(), s.Client, o)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func pod(namespace, name, account, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{ServiceAccountName: account, NodeName: node,
			Containers: []corev1.Container{{Name: "c", Image: "example.com/c:1"}}},
	}
}

func TestAnonymousMaySeeHealthAndVersion(t *testing.T) {
	s := apitest.Start(t)
	for path, want := range map[string]int{
		"/healthz": 200, "/livez": 200, "/readyz": 200, "/version": 200,
		"/api": 403, "/metrics": 403, "/api/v1/namespaces": 403, "/openid/v1/jwks": 403,
	} {
		code, body := get(t, s, path, "")
		if code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
		if want == 403 && !strings.Contains(body, `User \"system:anonymous\" cannot`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if code, body := get(t, s, "/version", "not a token"); code != 401 {
		t.Errorf("a bad token: %d %s", code, body)
	}
}

func TestServiceAccountTokenLife(t *testing.T) {
	s := apitest.Start(t)
	ctx := t.Context()
	sa := create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
	create(t, s, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robots"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "robot"}}})
	p := create(t, s, pod("default", "p", "robot", ""))

	request := func(ref *authenticationv1.BoundObjectReference) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: ref}}
	}
	tokens, err := auth.NewTokens(auth.TokenConfig{}, s.PKI.ServiceAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	tokens.Use(s.Client)
	issue := func(ref *authenticationv1.BoundObjectReference) string {
		t.Helper()
		req := request(ref)
		if err := tokens.Request(ctx, s.Client, sa, req); err != nil {
			t.Fatal(err)
		}
		return req.Status.Token
	}
	free := issue(nil)
	bound := issue(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: p.UID})

	// The binding reaches the authorizer by its watch.
	deadline, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for code := 0; code != 200; {
		if deadline.Err() != nil {
			t.Fatalf("the binding has no effect: %d", code)
		}
		code, _ = get(t, s, "/api/v1/namespaces/default/pods", free)
	}
	for what, token := range map[string]string{"a free token": free, "a pod's token": bound} {
		if code, body := get(t, s, "/api/v1/namespaces/default/pods", token); code != 200 {
			t.Errorf("%s: %d %s", what, code, body)
		}
		if code, body := get(t, s, "/api/v1/namespaces/default/secrets", token); code != 403 ||
			!strings.Contains(body, `User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"`) {
			t.Errorf("%s may see secrets: %d %s", what, code, body)
		}
		if code, _ := get(t, s, "/api/v1/namespaces/kube-system/pods", token); code != 403 {
			t.Errorf("%s may look into another namespace: %d", what, code)
		}
	}
	u, _, ok, err := tokens.VerifyToken(ctx, bound, nil)
	if err != nil || !ok || u.Extra["authentication.kubernetes.io/pod-name"][0] != "p" || u.UID != string(sa.UID) {
		t.Errorf("bound token is %+v %t %v", u, ok, err)
	}
	if _, _, ok, err := tokens.VerifyToken(ctx, free, []string{"vault"}); ok || err == nil || !strings.Contains(err.Error(), `invalid for the target audiences ["vault"]`) {
		t.Errorf("another audience: %t %v", ok, err)
	}

	zero := int64(0)
	if err := client.Delete[*corev1.Pod](ctx, s.Client, "default", "p", client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, s, "/api/v1/namespaces/default/pods", bound); code != 401 {
		t.Errorf("the token of a deleted pod: %d %s", code, body)
	}
	create(t, s, pod("default", "p", "robot", ""))
	if code, body := get(t, s, "/api/v1/namespaces/default/pods", bound); code != 401 {
		t.Errorf("the token of an earlier pod of that name: %d %s", code, body)
	}
	if err := client.Delete[*corev1.ServiceAccount](ctx, s.Client, "default", "robot", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
	if code, body := get(t, s, "/api/v1/namespaces/default/pods", free); code != 401 {
		t.Errorf("the token of an earlier account of that name: %d %s", code, body)
	}
}

func TestTokenRequestRefusals(t *testing.T) {
	s := apitest.Start(t)
	sa := create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
	p := create(t, s, pod("default", "other", "somebody", ""))
	tokens, err := auth.NewTokens(auth.TokenConfig{}, s.PKI.ServiceAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	short, long := int64(599), int64(1<<32+1)
	for _, tc := range []struct {
		name string
		spec authenticationv1.TokenRequestSpec
		want string
	}{
		{"short", authenticationv1.TokenRequestSpec{ExpirationSeconds: &short}, "may not specify a duration less than 10 minutes"},
		{"long", authenticationv1.TokenRequestSpec{ExpirationSeconds: &long}, "may not specify a duration larger than 2^32 seconds"},
		{"another's pod", authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "other", UID: p.UID}},
			`cannot bind token for serviceaccount "robot" to pod running with different serviceaccount name.`},
		{"no pod", authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "none"}}, `pods "none" not found`},
		{"a kind that cannot be bound", authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Service", Name: "x"}},
			"cannot bind token to object of type /v1, Kind=Service"},
	} {
		err := tokens.Request(t.Context(), s.Client, sa, &authenticationv1.TokenRequest{Spec: tc.spec})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if _, ok := err.(apierrors.APIStatus); !ok {
			t.Errorf("%s: %T is not a Status", tc.name, err)
		}
	}
}
