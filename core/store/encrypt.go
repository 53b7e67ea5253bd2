package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"binnacle.io/core/client"
)

// sealed begins every encrypted value, in upstream's format: then follow
// "<provider>:v1:<key name>:" and what the provider makes of the object.
const sealed = "k8s:enc:"

// keyring seals and opens values as an EncryptionConfiguration says: the first
// rule that names a resource is its rule, the first provider and key of that
// rule seal, all open.
type keyring struct {
	rules []rule
}

type rule struct {
	resources []resourcePattern
	keys      []sealer
}

// sealer is one key. The one of identity has no prefix and no methods.
type sealer struct {
	provider string // prefix without the key's name, "" for identity
	prefix   []byte // with the name and its colon
	box      box
}

// box is a cipher with a key. key is where the value is stored, which ciphers
// that authenticate bind the value to.
type box interface {
	seal(dst []byte, key string, plain []byte) []byte
	open(key string, sealed []byte) ([]byte, error)
}

// resourcePattern is "resource", "resource.group", "*.group", "*." (the core
// group) or "*.*".
type resourcePattern struct {
	gr                  client.Resource
	anyGroup, anyInside bool
}

func parsePattern(s string) (resourcePattern, error) {
	resource, group, dotted := strings.Cut(s, ".")
	p := resourcePattern{gr: client.Resource{Group: group, Resource: resource}, anyInside: resource == "*", anyGroup: group == "*"}
	if resource == "" || p.anyInside && !dotted || p.anyGroup && !p.anyInside || strings.Contains(strings.TrimPrefix(s, "*"), "*") && s != "*.*" {
		return p, fmt.Errorf("%q is not a resource: want resource, resource.group, *.group, *. or *.*", s)
	}
	return p, nil
}

func (p resourcePattern) matches(gr client.Resource) bool {
	return (p.anyGroup || p.gr.Group == gr.Group) && (p.anyInside || p.gr.Resource == gr.Resource)
}

func newKeyring(cfg *apiserver.EncryptionConfiguration) (*keyring, error) {
	r := &keyring{}
	for i, rc := range cfg.Resources {
		one, err := newRule(rc)
		if err != nil {
			return nil, fmt.Errorf("cannot encrypt as resources[%d] (%s) says: %w", i, strings.Join(rc.Resources, ", "), err)
		}
		r.rules = append(r.rules, one)
	}
	return r, nil
}

func newRule(rc apiserver.ResourceConfiguration) (out rule, err error) {
	if len(rc.Resources) == 0 || len(rc.Providers) == 0 {
		return out, errors.New("resources and providers must be given")
	}
	for _, s := range rc.Resources {
		p, err := parsePattern(s)
		if err != nil {
			return out, err
		}
		out.resources = append(out.resources, p)
	}
	for i, p := range rc.Providers {
		keys, err := newProvider(p)
		if err != nil {
			return out, fmt.Errorf("providers[%d]: %w", i, err)
		}
		for _, k := range keys {
			if slices.ContainsFunc(out.keys, func(o sealer) bool { return bytes.Equal(o.prefix, k.prefix) }) {
				return out, fmt.Errorf("providers[%d]: %q is there twice", i, k.prefix)
			}
			out.keys = append(out.keys, k)
		}
	}
	return out, nil
}

func newProvider(p apiserver.ProviderConfiguration) (out []sealer, err error) {
	add := func(provider string, keys []apiserver.Key, sizes []int, makeBox func(secret []byte) (box, error)) {
		if len(keys) == 0 {
			err = fmt.Errorf("%s has no keys", provider)
		}
		for _, k := range keys {
			if k.Name == "" || strings.Contains(k.Name, ":") {
				err = fmt.Errorf("key %q of %s: its name must not be empty nor contain a colon", k.Name, provider)
				return
			}
			secret, bad := base64.StdEncoding.DecodeString(k.Secret)
			if bad != nil || !slices.Contains(sizes, len(secret)) {
				err = fmt.Errorf("key %q of %s: want a secret of %v bytes in base64", k.Name, provider, sizes)
				return
			}
			var b box
			if b, err = makeBox(secret); err != nil {
				return
			}
			prefix := sealed + provider + ":v1:"
			out = append(out, sealer{provider: prefix, prefix: []byte(prefix + k.Name + ":"), box: b})
		}
	}
	kinds := 0
	if p.AESGCM != nil {
		kinds++
		add("aesgcm", p.AESGCM.Keys, []int{16, 24, 32}, newGCM)
	}
	if p.AESCBC != nil {
		kinds++
		add("aescbc", p.AESCBC.Keys, []int{32}, newCBC)
	}
	if p.Secretbox != nil {
		kinds++
		add("secretbox", p.Secretbox.Keys, []int{32}, newSecretbox)
	}
	if p.Identity != nil {
		kinds++
		out = append(out, sealer{})
	}
	if p.KMS != nil {
		return nil, fmt.Errorf("kms %q: key management services are not supported; want aesgcm, aescbc, secretbox or identity", p.KMS.Name)
	}
	if err == nil && kinds != 1 {
		err = fmt.Errorf("%d providers in one element, want 1", kinds)
	}
	return out, err
}

// rule is that of a resource, or nil.
func (r *keyring) rule(gr client.Resource) *rule {
	for i := range r.rules {
		for _, p := range r.rules[i].resources {
			if p.matches(gr) {
				return &r.rules[i]
			}
		}
	}
	return nil
}

// seal makes of an encoded object what is stored under an etcd key.
func (r *keyring) seal(gr client.Resource, key string, plain []byte) []byte {
	rule := r.rule(gr)
	if rule == nil || rule.keys[0].box == nil {
		return plain
	}
	k := rule.keys[0]
	return k.box.seal(slices.Grow(slices.Clone(k.prefix), len(plain)+64), key, plain) // room for nonce and tag
}

// errPlain refuses a value that is not encrypted where no provider is identity,
// as upstream does: whoever can write etcd must not slip one in.
var errPlain = errors.New("cannot decrypt value: it is not encrypted, and no identity provider allows that")

// unknownKeyError says that no key of the keyring has sealed a value.
type unknownKeyError struct{ prefix string }

func (e *unknownKeyError) Error() string {
	return fmt.Sprintf("cannot decrypt value: no key for %q", e.prefix)
}

// open is the reverse of seal. stale says that seal would store it otherwise
// today: under another key, or not encrypted, or encrypted.
func (r *keyring) open(gr client.Resource, key string, value []byte) (plain []byte, stale bool, err error) {
	rule := r.rule(gr)
	if !bytes.HasPrefix(value, []byte(sealed)) {
		if rule == nil {
			return value, false, nil
		}
		i := slices.IndexFunc(rule.keys, func(k sealer) bool { return k.box == nil })
		if i < 0 {
			return nil, false, errPlain
		}
		return value, i > 0, nil
	}
	if rule != nil {
		for i, k := range rule.keys {
			if plain, ok, err := k.open(key, value); ok {
				return plain, i > 0, err
			}
		}
	}
	// Sealed when another rule was this resource's.
	for i := range r.rules {
		for _, k := range r.rules[i].keys {
			plain, ok, bad := k.open(key, value)
			if ok && bad == nil {
				return plain, true, nil
			}
			if ok {
				err = bad
			}
		}
	}
	if err == nil {
		err = &unknownKeyError{prefixOf(value)}
	}
	return nil, false, err
}

// open reports whether the value is of this key, and what is in it.
func (k sealer) open(key string, value []byte) (plain []byte, ok bool, err error) {
	if k.box == nil {
		return nil, false, nil
	}
	rest, ok := bytes.CutPrefix(value, k.prefix)
	if !ok {
		return nil, false, nil
	}
	if plain, err = k.box.open(key, rest); err != nil {
		return nil, true, fmt.Errorf("cannot decrypt value with key %q: %w", k.name(), err)
	}
	return plain, true, nil
}

func (k sealer) name() string {
	return strings.TrimSuffix(strings.TrimPrefix(string(k.prefix), k.provider), ":")
}

// prefixOf is what a sealed value says of itself: the part through its fifth
// colon (k8s:enc:provider:version:name:), cut at 64 bytes.
func prefixOf(value []byte) string {
	n := 0
	for range 5 {
		i := bytes.IndexByte(value[n:], ':')
		if i < 0 {
			break
		}
		n += i + 1
	}
	return string(value[:min(n, 64)])
}

var errShort = errors.New("it is too short")

// gcm is a 12-byte nonce and the ciphertext with the etcd key as additional
// data. Nonces are random, so a key must be rotated before 2^32 writes.
type gcm struct{ aead cipher.AEAD }

func newGCM(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return gcm{aead}, err
}

func (g gcm) seal(dst []byte, key string, plain []byte) []byte {
	nonce := random(g.aead.NonceSize())
	return g.aead.Seal(append(dst, nonce...), nonce, plain, []byte(key))
}

func (g gcm) open(key string, data []byte) ([]byte, error) {
	n := g.aead.NonceSize()
	if len(data) < n {
		return nil, errShort
	}
	return g.aead.Open(nil, data[:n], data[n:], []byte(key))
}

// cbc is a 16-byte vector and the ciphertext of the object padded as PKCS #7
// says. It does not notice changes: for data that upstream has written.
type cbc struct{ block cipher.Block }

func newCBC(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	return cbc{block}, err
}

func (c cbc) seal(dst []byte, _ string, plain []byte) []byte {
	iv := random(aes.BlockSize)
	dst = append(append(dst, iv...), plain...)
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	dst = append(dst, bytes.Repeat([]byte{byte(pad)}, pad)...)
	text := dst[len(dst)-len(plain)-pad:]
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(text, text)
	return dst
}

func (c cbc) open(_ string, data []byte) ([]byte, error) {
	if len(data) < 2*aes.BlockSize || len(data)%aes.BlockSize != 0 {
		return nil, errors.New("its length is not a multiple of the block size")
	}
	plain := make([]byte, len(data)-aes.BlockSize)
	cipher.NewCBCDecrypter(c.block, data[:aes.BlockSize]).CryptBlocks(plain, data[aes.BlockSize:])
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errors.New("invalid padding")
	}
	return plain[:len(plain)-pad], nil
}

// naclBox is a 24-byte nonce and XSalsa20 with Poly1305.
type naclBox struct{ secret [32]byte }

const naclNonce = 24

func newSecretbox(secret []byte) (box, error) { return naclBox{[32]byte(secret)}, nil }

func (n naclBox) seal(dst []byte, _ string, plain []byte) []byte {
	nonce := [naclNonce]byte(random(naclNonce))
	return secretbox.Seal(append(dst, nonce[:]...), plain, &nonce, &n.secret)
}

func (n naclBox) open(_ string, data []byte) ([]byte, error) {
	if len(data) < naclNonce+secretbox.Overhead {
		return nil, errShort
	}
	plain, ok := secretbox.Open(nil, data[naclNonce:], (*[naclNonce]byte)(data), &n.secret)
	if !ok {
		return nil, errors.New("message authentication failed")
	}
	return plain, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
