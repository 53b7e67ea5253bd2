package store

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/cluster/atomicfile"
)

// Encryption says what is encrypted at rest.
type Encryption struct {
	// File is an EncryptionConfiguration (apiserver.config.k8s.io/v1) with
	// aesgcm, aescbc, secretbox and identity providers, and is secret. When
	// it is missing it is made, with a fresh key. Empty means that nothing
	// is encrypted.
	File string
	// Resources are to be in it: "secrets", "configmaps",
	// "deployments.apps", "*.apps", "*.*". Those it does not mention are
	// added to its first element. Empty means Secrets when the file is
	// made, and no change when it is there.
	Resources []string
}

const (
	encryptionAPIVersion = "apiserver.config.k8s.io/v1"
	encryptionKind       = "EncryptionConfiguration"
	keyBytes             = 32
)

// ensureEncryption reads the file, made or completed if need be. made says
// that there was none.
func ensureEncryption(e Encryption, now time.Time) (cfg *apiserver.EncryptionConfiguration, made bool, err error) {
	if e.File == "" {
		return &apiserver.EncryptionConfiguration{}, false, nil
	}
	cfg, err = readEncryption(e.File)
	if errors.Is(err, os.ErrNotExist) {
		cfg, made = &apiserver.EncryptionConfiguration{}, true
		if len(e.Resources) == 0 {
			e.Resources = []string{"secrets"}
		}
		cfg.Resources = []apiserver.ResourceConfiguration{{Providers: []apiserver.ProviderConfiguration{
			{AESGCM: &apiserver.AESConfiguration{Keys: []apiserver.Key{newKey(now)}}},
			{Identity: &apiserver.IdentityConfiguration{}}, // what was written before stays readable
		}}}
	} else if err != nil {
		return nil, false, err
	}
	changed := made
	for _, want := range e.Resources {
		p, err := parsePattern(want)
		if err != nil {
			return nil, false, fmt.Errorf("cannot encrypt at rest: %w", err)
		}
		if len(cfg.Resources) == 0 {
			return nil, false, fmt.Errorf("cannot encrypt %s at rest: %s has no resources", want, e.File)
		}
		if !mentions(cfg, want, p) {
			cfg.Resources[0].Resources = append(cfg.Resources[0].Resources, want)
			changed = true
		}
	}
	if changed {
		err = writeEncryption(e.File, cfg)
	}
	return cfg, made, err
}

// mentions reports whether a rule says anything of what a pattern names.
func mentions(cfg *apiserver.EncryptionConfiguration, want string, p resourcePattern) bool {
	for _, rc := range cfg.Resources {
		for _, have := range rc.Resources {
			q, err := parsePattern(have)
			if have == want || err == nil && !p.anyInside && q.matches(p.gr) {
				return true
			}
		}
	}
	return false
}

func newKey(now time.Time) apiserver.Key {
	return apiserver.Key{
		// The day is for people, the rest makes it unique.
		Name:   "key-" + now.UTC().Format("20060102") + "-" + hex.EncodeToString(random(4)),
		Secret: base64.StdEncoding.EncodeToString(random(keyBytes)),
	}
}

func readEncryption(file string) (*apiserver.EncryptionConfiguration, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read encryption keys: %w", err)
	}
	// Whoever reads the keys reads the Secrets.
	if st, err := os.Stat(file); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("cannot use encryption keys in %s: others may read it (mode %o); chmod 600 it", file, st.Mode().Perm())
	}
	cfg := &apiserver.EncryptionConfiguration{}
	if err := yaml.UnmarshalStrict(b, cfg); err != nil {
		return nil, fmt.Errorf("cannot understand encryption keys in %s: %w", file, err)
	}
	if cfg.APIVersion != encryptionAPIVersion || cfg.Kind != encryptionKind {
		return nil, fmt.Errorf("cannot understand encryption keys in %s: it is a %s of %q, want %s of %s", file, cfg.Kind, cfg.APIVersion, encryptionKind, encryptionAPIVersion)
	}
	return cfg, nil
}

func writeEncryption(file string, cfg *apiserver.EncryptionConfiguration) error {
	cfg.APIVersion, cfg.Kind = encryptionAPIVersion, encryptionKind
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("cannot write encryption keys to %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of encryption keys: %w", err)
	}
	return atomicfile.Write(file, b, 0o600)
}

// keysOf are the keys of the provider that seals, or nil if nothing does.
func keysOf(rc *apiserver.ResourceConfiguration) *[]apiserver.Key {
	switch p := &rc.Providers[0]; {
	case p.AESGCM != nil:
		return &p.AESGCM.Keys
	case p.AESCBC != nil:
		return &p.AESCBC.Keys
	case p.Secretbox != nil:
		return &p.Secretbox.Keys
	}
	return nil
}

// withKey puts a fresh key first wherever something is encrypted.
func withKey(cfg *apiserver.EncryptionConfiguration, now time.Time) (*apiserver.EncryptionConfiguration, []string) {
	out := cfg.DeepCopy()
	var names []string
	for i := range out.Resources {
		if keys := keysOf(&out.Resources[i]); keys != nil {
			k := newKey(now)
			*keys = slices.Insert(*keys, 0, k)
			names = append(names, k.Name)
		}
	}
	return out, names
}

// withoutOldKeys leaves the keys that seal, and identity.
func withoutOldKeys(cfg *apiserver.EncryptionConfiguration) *apiserver.EncryptionConfiguration {
	out := cfg.DeepCopy()
	for i := range out.Resources {
		rc := &out.Resources[i]
		if keys := keysOf(rc); keys != nil {
			*keys = (*keys)[:1]
			rc.Providers = slices.DeleteFunc(rc.Providers, func(p apiserver.ProviderConfiguration) bool {
				return p.Identity == nil && p != rc.Providers[0]
			})
		}
	}
	return out
}
