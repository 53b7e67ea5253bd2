package store

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// secretKey is a key of n bytes, all of them the first letter of its name.
func secretKey(name string, n int) apiserver.Key {
	return apiserver.Key{Name: name, Secret: base64.StdEncoding.EncodeToString([]byte(strings.Repeat(name[:1], n)))}
}

func aesgcm(keys ...apiserver.Key) apiserver.ProviderConfiguration {
	return apiserver.ProviderConfiguration{AESGCM: &apiserver.AESConfiguration{Keys: keys}}
}

func encryptionOf(resources string, providers ...apiserver.ProviderConfiguration) *apiserver.EncryptionConfiguration {
	return &apiserver.EncryptionConfiguration{Resources: []apiserver.ResourceConfiguration{{Resources: strings.Fields(resources), Providers: providers}}}
}

var identity = apiserver.ProviderConfiguration{Identity: &apiserver.IdentityConfiguration{}}

func TestKeyringRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  *apiserver.EncryptionConfiguration
		want string
	}{
		"no key":        {encryptionOf("pods", aesgcm()), "aesgcm has no keys"},
		"bad size":      {encryptionOf("pods", aesgcm(secretKey("a", 5))), "want a secret of [16 24 32] bytes"},
		"bad cbc size":  {encryptionOf("pods", apiserver.ProviderConfiguration{AESCBC: &apiserver.AESConfiguration{Keys: []apiserver.Key{secretKey("a", 16)}}}), "[32] bytes"},
		"not base64":    {encryptionOf("pods", aesgcm(apiserver.Key{Name: "a", Secret: "!"})), "base64"},
		"colon":         {encryptionOf("pods", aesgcm(secretKey("a:b", 16))), "colon"},
		"no name":       {encryptionOf("pods", aesgcm(apiserver.Key{Secret: secretKey("a", 16).Secret})), "must not be empty"},
		"same name":     {encryptionOf("pods", aesgcm(secretKey("a", 16), secretKey("a", 32))), "twice"},
		"two at once":   {encryptionOf("pods", apiserver.ProviderConfiguration{AESGCM: aesgcm(secretKey("a", 16)).AESGCM, Identity: identity.Identity}), "2 providers"},
		"no provider":   {encryptionOf("pods"), "must be given"},
		"no resource":   {encryptionOf("", identity), "must be given"},
		"odd resource":  {encryptionOf("pods.*", identity), "want resource"},
		"a star":        {encryptionOf("*", identity), "want resource"},
		"a KMS":         {encryptionOf("pods", apiserver.ProviderConfiguration{KMS: &apiserver.KMSConfiguration{Name: "vault"}}), `kms "vault"`},
		"empty element": {encryptionOf("pods", apiserver.ProviderConfiguration{}), "0 providers"},
	} {
		if _, err := newKeyring(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	ring := func(cfg *apiserver.EncryptionConfiguration) *keyring { return must(newKeyring(cfg))(t) }
	old := ring(encryptionOf("pods", aesgcm(secretKey("a", 16)), identity))
	now := ring(encryptionOf("pods", aesgcm(secretKey("b", 32), secretKey("a", 16)), identity))
	strict := ring(encryptionOf("pods", aesgcm(secretKey("b", 32))))
	off := ring(encryptionOf("pods", identity, aesgcm(secretKey("b", 32))))
	never := ring(&apiserver.EncryptionConfiguration{})
	byOld, byNow := old.seal(pods, "key", []byte("plain")), now.seal(pods, "key", []byte("plain"))
	for name, c := range map[string]struct {
		ring  *keyring
		gr    client.Resource
		key   string
		value []byte
		stale bool
		err   string
	}{
		"same key":          {ring: old, gr: pods, key: "key", value: byOld},
		"older key":         {ring: now, gr: pods, key: "key", value: byOld, stale: true},
		"newer key":         {ring: now, gr: pods, key: "key", value: byNow},
		"plain":             {ring: now, gr: pods, key: "key", value: []byte("plain"), stale: true},
		"plain, forbidden":  {ring: strict, gr: pods, key: "key", value: []byte("plain"), err: "not encrypted"},
		"plain by intent":   {ring: now, gr: nodes, key: "key", value: []byte("plain")},
		"turned off":        {ring: off, gr: pods, key: "key", value: byNow, stale: true},
		"plain, turned off": {ring: off, gr: pods, key: "key", value: []byte("plain")},
		"no longer wanted":  {ring: now, gr: nodes, key: "key", value: byNow, stale: true},
		"missing key":       {ring: old, gr: pods, key: "key", value: byNow, err: "\"k8s:enc:aesgcm:v1:b:\""},
		"no keys":           {ring: never, gr: pods, key: "key", value: byNow, err: "no key"},
		"moved to another":  {ring: now, gr: pods, key: "other", value: byNow, err: "key \"b\""},
		"cut":               {ring: now, gr: pods, key: "key", value: byNow[:20], err: "too short"},
		"another's format":  {ring: now, gr: pods, key: "key", value: []byte("k8s:enc:kms:v2:x:data"), err: "\"k8s:enc:kms:v2:x:\""},
		"nothing but magic": {ring: now, gr: pods, key: "key", value: []byte("k8s:enc:"), err: "no key"},
	} {
		plain, stale, err := c.ring.open(c.gr, c.key, c.value)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil || string(plain) != "plain" || stale != c.stale {
			t.Errorf("%s: %q, stale %v, %v", name, plain, stale, err)
		}
	}
	if v := off.seal(pods, "key", []byte("plain")); string(v) != "plain" {
		t.Errorf("identity first stores %q", v)
	}
}

func TestProvidersRoundTrip(t *testing.T) {
	t.Parallel()
	for _, p := range []apiserver.ProviderConfiguration{
		aesgcm(secretKey("k", 16)), aesgcm(secretKey("k", 24)), aesgcm(secretKey("k", 32)),
		{AESCBC: &apiserver.AESConfiguration{Keys: []apiserver.Key{secretKey("k", 32)}}},
		{Secretbox: &apiserver.SecretboxConfiguration{Keys: []apiserver.Key{secretKey("k", 32)}}},
	} {
		r := must(newKeyring(encryptionOf("pods", p)))(t)
		for n := range 50 {
			plain := strings.Repeat("x", n)
			value := r.seal(pods, "/registry/pods/a", []byte(plain))
			if back, _, err := r.open(pods, "/registry/pods/a", value); err != nil || string(back) != plain {
				t.Fatalf("%d bytes come back as %q, %v", n, back, err)
			}
			for cut := range value {
				if back, _, err := r.open(pods, "/registry/pods/a", value[:cut]); err == nil && cut > len(sealed) && string(back) == plain {
					t.Fatalf("%d of %d bytes are accepted", cut, len(value))
				}
			}
		}
	}
}

// What upstream's transformers (v0.37.2 of k8s.io/apiserver) made of one value
// with a key of 32 times "u", stored as /registry/secrets/ns/s.
func TestReadsUpstreamsFormats(t *testing.T) {
	t.Parallel()
	keys := []apiserver.Key{secretKey("u", 32)}
	r := must(newKeyring(encryptionOf("secrets", aesgcm(keys...),
		apiserver.ProviderConfiguration{AESCBC: &apiserver.AESConfiguration{Keys: keys}},
		apiserver.ProviderConfiguration{Secretbox: &apiserver.SecretboxConfiguration{Keys: keys}})))(t)
	for provider, value := range map[string]string{
		"aesgcm":    "UAeDr+Vza+qrXoUvkArChCkJvpp+7UmzLKAbEwfX7tWg682t0Nhw1ruEVP6RIIxI0LQIWw==",
		"aescbc":    "DYVBPLMj0fUmnr9SV4zsXEbD+5c7rgbqq1uLsxCcmZSexnoPKvHpTr4HbjZvcVst",
		"secretbox": "m+MwAWbu1ihwef6pexWh4A2oGhk9kRe3UtHO4WJDTll1waVDjsT8Iu7ACg+1gw/rvuBl2e6DyPkPgDhrP91ULw==",
	} {
		data := must(base64.StdEncoding.DecodeString(value))(t)
		plain, _, err := r.open(client.Resource{Resource: "secrets"}, "/registry/secrets/ns/s", append([]byte("k8s:enc:"+provider+":v1:u:"), data...))
		if err != nil || string(plain) != "k8s\x00upstream sealed this" {
			t.Errorf("%s: %q, %v", provider, plain, err)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, resource string
		want              bool
	}{
		{"secrets", "secrets", true}, {"secrets", "secrets.example.com", false}, {"deployments.apps", "deployments.apps", true},
		{"*.apps", "deployments.apps", true}, {"*.apps", "secrets", false}, {"*.", "secrets", true}, {"*.", "deployments.apps", false},
		{"*.*", "secrets", true}, {"*.*", "pandas.awesome.bears.example", true}, {"pandas.awesome.bears.example", "pandas.awesome.bears.example", true},
	} {
		resource, group, _ := strings.Cut(c.resource, ".")
		if got := must(parsePattern(c.pattern))(t).matches(client.Resource{Group: group, Resource: resource}); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.resource, got)
		}
	}
}

// rawValue is what etcd holds of a ConfigMap.
func rawValue(t *testing.T, s *Store, name string) string {
	t.Helper()
	resp := must(s.etcd.Get(t.Context(), "/registry/configmaps/ns/"+name))(t)
	if len(resp.Kvs) == 0 {
		t.Fatalf("etcd has no %s", name)
	}
	return string(resp.Kvs[0].Value)
}

func readable(t *testing.T, s *Store, name, want string) {
	t.Helper()
	e := must(s.Get(t.Context(), configMaps, key("ns", name), Latest()))(t)
	if got := e.Object.(*corev1.ConfigMap).Data["v"]; got != want {
		t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

func TestEncryptionAtRest(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	file := filepath.Join(dir, "pki", "encryption.yaml")
	cfg := Config{Dir: filepath.Join(dir, "data"), NoFsync: true}

	// Data of before is readable, and encrypted by and by.
	s := open(t, cfg)
	must(s.Create(ctx, configMaps, configMap("ns", "before", "classified")))(t)
	if v := rawValue(t, s, "before"); !strings.Contains(v, "classified") {
		t.Fatalf("plain value is %q", v)
	}
	shut(t, s)

	cfg.Encryption = Encryption{File: file, Resources: []string{"configmaps"}}
	s = open(t, cfg)
	eventually(t, "the plain value is encrypted", func() bool {
		v := rawValue(t, s, "before")
		return strings.HasPrefix(v, "k8s:enc:aesgcm:v1:key-") && !strings.Contains(v, "classified")
	})
	readable(t, s, "before", "classified")
	must(s.Create(ctx, configMaps, configMap("ns", "after", "classified")))(t)
	if v := rawValue(t, s, "after"); !strings.HasPrefix(v, "k8s:enc:aesgcm:v1:key-") || strings.Contains(v, "classified") {
		t.Errorf("new value is %q", v)
	}
	if st := must(os.Stat(file))(t); st.Mode().Perm() != 0o600 {
		t.Errorf("mode of %s is %o", file, st.Mode().Perm())
	}
	made := must(s.Get(ctx, configMaps, key("ns", "after"), Latest()))(t)
	same := func(cur *Entry) (client.Object, error) { return cur.Object.DeepCopyObject().(client.Object), nil }
	if e := must(s.Update(ctx, configMaps, made.Key, Preconditions{}, same))(t); e != made {
		t.Error("an update without a change was written")
	}
	if n := must(s.tel.Registry.Gather())(t); !metricHas(n, "apiserver_storage_transformation_operations_total", "status", "OK") ||
		!metricHas(n, "apiserver_storage_transformation_duration_seconds", "transformer_prefix", "k8s:enc:aesgcm:v1:") {
		t.Error("transformations are not counted")
	}
	shut(t, s)

	// Without its file nothing starts, and no new key hides the loss.
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, cfg, testKinds(), telemetry.Discard()); err == nil || !strings.Contains(err.Error(), file+" should hold, and it is missing") {
		t.Errorf("opened without keys: %v", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("%s was left: %v", file, err)
	}

	// With another key what it cannot open says so, and the rest works.
	writeKeys(t, file, encryptionOf("configmaps", aesgcm(secretKey("other", 32)), identity))
	s = open(t, cfg)
	if _, err := s.Get(ctx, configMaps, key("ns", "after"), Latest()); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "no key for") {
		t.Errorf("read without the key: %v", err)
	}
	must(s.Create(ctx, configMaps, configMap("ns", "third", "3")))(t)
	shut(t, s)

	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, cfg, testKinds(), telemetry.Discard()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("opened with keys for all to read: %v", err)
	}
}

func writeKeys(t *testing.T, file string, cfg *apiserver.EncryptionConfiguration) {
	t.Helper()
	if err := writeEncryption(file, cfg); err != nil {
		t.Fatal(err)
	}
}

func TestEncryptionFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	cfg, made, err := ensureEncryption(Encryption{File: file}, now)
	if err != nil || !made || cfg.Resources[0].Resources[0] != "secrets" || !strings.HasPrefix(cfg.Resources[0].Providers[0].AESGCM.Keys[0].Name, "key-20261121-") {
		t.Fatalf("made %v: %+v, %v", made, cfg, err)
	}
	// As upstream would read it.
	var other map[string]any
	if err := yaml.Unmarshal(must(os.ReadFile(file))(t), &other); err != nil || other["kind"] != "EncryptionConfiguration" || other["apiVersion"] != "apiserver.config.k8s.io/v1" {
		t.Errorf("file holds %v, %v", other, err)
	}
	again, made, err := ensureEncryption(Encryption{File: file, Resources: []string{"secrets", "configmaps", "deployments.apps"}}, now)
	if err != nil || made || fmt.Sprint(again.Resources[0].Resources) != "[secrets configmaps deployments.apps]" || again.Resources[0].Providers[0].AESGCM.Keys[0] != cfg.Resources[0].Providers[0].AESGCM.Keys[0] {
		t.Errorf("completed %v: %+v, %v", made, again, err)
	}
	for text, want := range map[string]string{
		"kind: X":   "it is a X",
		"secret: 5": "unknown field",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ensureEncryption(Encryption{File: file}, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
