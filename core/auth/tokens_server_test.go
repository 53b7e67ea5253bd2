package auth_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

// TestBootstrapTokens: whatever is wrong with a token, it is unknown.
func TestBootstrapTokens(t *testing.T) {
	s := apitest.Start(t)
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	b := auth.NewBootstrapTokens([]string{"api"}, func() time.Time { return now })
	if _, _, ok, err := b.VerifyToken(t.Context(), "abcdef.0123456789abcdef", []string{"api"}); ok || err != nil {
		t.Errorf("before it can read: %t %v", ok, err)
	}
	b.Use(s.Client)
	good := map[string]string{"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
		"expiration": "2026-01-01T13:00:00Z", "auth-extra-groups": "system:bootstrappers:workers,system:bootstrappers:a"}
	made := create(t, s, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: auth.BootstrapTokenType, StringData: good})
	for _, tc := range []struct {
		name, key, value string
		token            string
		ok               bool
	}{
		{"good", "", "", "", true},
		{"another secret", "", "", "abcdef.0123456789abcdee", false},
		{"another id", "", "", "abcdeg.0123456789abcdef", false},
		{"not of the form", "", "", "ABCDEF.0123456789abcdef", false},
		{"expired", "expiration", "2026-01-01T11:59:59Z", "", false},
		{"without end", "expiration", "", "", true},
		{"no time", "expiration", "tomorrow", "", false},
		{"not for this", "usage-bootstrap-authentication", "false", "", false},
		{"id that is not the name's", "token-id", "ghijkl", "", false},
		{"no extra groups", "auth-extra-groups", "", "", true},
		{"groups of others", "auth-extra-groups", "system:masters", "", false},
		{"group that ends badly", "auth-extra-groups", "system:bootstrappers:x-", "", false},
	} {
		if _, err := client.Modify(t.Context(), s.Client, "kube-system", made.Name, "", func(o *corev1.Secret) (bool, error) {
			o.Data = map[string][]byte{}
			for k, v := range good {
				o.Data[k] = []byte(v)
			}
			if tc.key != "" {
				o.Data[tc.key] = []byte(tc.value)
			}
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
		token := tc.token
		if token == "" {
			token = "abcdef.0123456789abcdef"
		}
		u, matched, ok, err := b.VerifyToken(t.Context(), token, []string{"api"})
		if ok != tc.ok || err != nil {
			t.Errorf("%s: %+v %t %v", tc.name, u, ok, err)
			continue
		}
		if tc.name == "good" && (u.Name != "system:bootstrap:abcdef" || !slices.Equal(matched, []string{"api"}) ||
			!slices.Equal(u.Groups, []string{"system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:workers"})) {
			t.Errorf("%+v for %q", u, matched)
		}
	}
	if _, _, ok, _ := b.VerifyToken(t.Context(), "abcdef.0123456789abcdef", []string{"vault"}); ok {
		t.Error("good for another audience")
	}
}

func TestLegacyToken(t *testing.T) {
	s := apitest.Start(t)
	ctx := t.Context()
	now := time.Now()
	tokens, err := auth.NewTokens(auth.TokenConfig{Now: func() time.Time { return now }}, s.PKI.ServiceAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	tokens.Use(s.Client)
	sa := create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
	token, err := tokens.SignLegacy(sa, "robot-token")
	if err != nil {
		t.Fatal(err)
	}
	verify := func() (*auth.User, string) {
		u, _, ok, err := tokens.VerifyToken(ctx, token, tokens.Audiences())
		if err != nil {
			return nil, err.Error()
		}
		if !ok {
			return nil, "unknown"
		}
		return u, ""
	}
	if _, why := verify(); why != "Token has been invalidated" {
		t.Errorf("without a Secret: %s", why)
	}
	create(t, s, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot-token", Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
		Type: corev1.SecretTypeServiceAccountToken, StringData: map[string]string{"token": token}})
	u, why := verify()
	if why != "" || u.Name != "system:serviceaccount:default:robot" || u.UID != string(sa.UID) || !slices.Contains(u.Groups, "system:serviceaccounts:default") || len(u.Extra) > 0 {
		t.Fatalf("%+v %s", u, why)
	}
	read := func() *corev1.Secret {
		t.Helper()
		o, err := client.Get[*corev1.Secret](ctx, s.Client, "default", "robot-token")
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	first := read()
	if first.Labels[auth.LegacyLastUsed] != now.UTC().Format("2006-01-02") {
		t.Errorf("labels %v", first.Labels)
	}
	if verify(); read().ResourceVersion != first.ResourceVersion {
		t.Error("the second use of a day is written down")
	}
	if _, _, ok, err := tokens.VerifyToken(ctx, token, []string{"bank"}); ok || err == nil || !strings.Contains(err.Error(), "is invalid for the target audiences") {
		t.Errorf("for another audience: %t %v", ok, err)
	}
	change := func(f func(*corev1.Secret)) {
		t.Helper()
		if _, err := client.Modify(ctx, s.Client, "default", "robot-token", "", func(o *corev1.Secret) (bool, error) { f(o); return true, nil }); err != nil {
			t.Fatal(err)
		}
	}
	change(func(o *corev1.Secret) { o.Labels[auth.LegacyInvalidSince] = "2026-01-01" })
	if _, why := verify(); !strings.Contains(why, "has been marked invalid. Use tokens from the TokenRequest API") {
		t.Errorf("marked invalid: %s", why)
	}
	change(func(o *corev1.Secret) { delete(o.Labels, auth.LegacyInvalidSince); o.Data["token"] = []byte("another") })
	if _, why := verify(); why != "Token does not match server's copy" {
		t.Errorf("another token: %s", why)
	}
	change(func(o *corev1.Secret) { o.Data["token"] = []byte(token) })
	if err := client.Delete[*corev1.ServiceAccount](ctx, s.Client, "default", "robot", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, why := verify(); why != `serviceaccounts "robot" not found` {
		t.Errorf("without account: %s", why)
	}
	again := create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
	if _, why := verify(); why != "ServiceAccount UID ("+string(again.UID)+") does not match claim ("+string(sa.UID)+")" {
		t.Errorf("another account: %s", why)
	}
}

// TestExtendedExpiry: the tokens that admission mounts outlive their hour, and
// say so; no others do.
func TestExtendedExpiry(t *testing.T) {
	s := apitest.Start(t)
	sa := create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}})
	p := create(t, s, pod("default", "p", "robot", ""))
	toPod := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: p.UID}
	now := time.Now().Truncate(time.Second)
	const hour = 3607 * time.Second
	for _, tc := range []struct {
		name     string
		cfg      auth.TokenConfig
		seconds  int64
		ref      *authenticationv1.BoundObjectReference
		audience []string
		life     time.Duration // of the token
		said     time.Duration // in the answer
		warns    bool
	}{
		{"mounted", auth.TokenConfig{}, 3607, toPod, nil, 365 * 24 * time.Hour, hour, true},
		{"asked for", auth.TokenConfig{}, 3600, toPod, nil, time.Hour, time.Hour, false},
		{"not bound", auth.TokenConfig{}, 3607, nil, nil, hour, hour, false},
		{"for somebody else", auth.TokenConfig{}, 3607, toPod, []string{"vault"}, hour, hour, false},
		{"turned off", auth.TokenConfig{ExactLife: true}, 3607, toPod, nil, hour, hour, false},
		{"bounded", auth.TokenConfig{MaxLife: time.Hour}, 7200, toPod, nil, time.Hour, time.Hour, false},
	} {
		tc.cfg.Now = func() time.Time { return now }
		tokens, err := auth.NewTokens(tc.cfg, s.PKI.ServiceAccountKey)
		if err != nil {
			t.Fatal(err)
		}
		req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &tc.seconds, BoundObjectRef: tc.ref, Audiences: tc.audience}}
		if err := tokens.Request(t.Context(), s.Client, sa, req); err != nil {
			t.Fatal(err)
		}
		parsed, err := jwt.ParseSigned(req.Status.Token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Expiry     int64 `json:"exp"`
			Kubernetes struct {
				WarnAfter int64 `json:"warnafter"`
			} `json:"kubernetes.io"`
		}
		if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
			t.Fatal(err)
		}
		warns := int64(0)
		if tc.warns {
			warns = now.Add(hour).Unix()
		}
		if claims.Expiry != now.Add(tc.life).Unix() || claims.Kubernetes.WarnAfter != warns || !req.Status.ExpirationTimestamp.Time.Equal(now.Add(tc.said)) {
			t.Errorf("%s: expires %v, warns %v, says %v", tc.name, time.Unix(claims.Expiry, 0).Sub(now), claims.Kubernetes.WarnAfter, req.Status.ExpirationTimestamp.Sub(now))
		}
	}
}
