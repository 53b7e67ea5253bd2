package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"binnacle.io/core/client"
)

// Encryption says what is encrypted at rest, in upstream's aesgcm format:
// "k8s:enc:aesgcm:v1:<key name>:", a 12-byte nonce, and the ciphertext sealed
// with the etcd key as additional data.
type Encryption struct {
	// Resources whose values are encrypted when written.
	Resources []client.Resource
	// Keys decrypt; the first also encrypts. To rotate, put a new key
	// first and write every object again, then drop the old key: an update
	// without a change is written when another key was used. Nonces are
	// random, so rotate before 2^32 writes with one key.
	Keys []EncryptionKey
}

// EncryptionKey is an AES key of 16, 24 or 32 bytes. Name is stored with each
// value and must not contain a colon.
type EncryptionKey struct {
	Name   string
	Secret []byte
}

const (
	sealed       = "k8s:enc:"
	sealedAESGCM = sealed + "aesgcm:v1:"
	nonceBytes   = 12
)

// keyring seals and opens values.
type keyring struct {
	resources []client.Resource
	keys      []ringKey
}

type ringKey struct {
	prefix []byte // with the name and its colon
	aead   cipher.AEAD
}

func newKeyring(cfg Encryption) (*keyring, error) {
	if len(cfg.Resources) > 0 && len(cfg.Keys) == 0 {
		return nil, errors.New("cannot encrypt: resources are configured, but no key")
	}
	r := &keyring{resources: cfg.Resources}
	for _, k := range cfg.Keys {
		if k.Name == "" || strings.Contains(k.Name, ":") {
			return nil, fmt.Errorf("cannot use encryption key %q: its name must not be empty nor contain a colon", k.Name)
		}
		block, err := aes.NewCipher(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("cannot use encryption key %q: %w", k.Name, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("cannot use encryption key %q: %w", k.Name, err)
		}
		prefix := []byte(sealedAESGCM + k.Name + ":")
		if slices.ContainsFunc(r.keys, func(o ringKey) bool { return bytes.Equal(o.prefix, prefix) }) {
			return nil, fmt.Errorf("cannot use encryption key %q: the name is used twice", k.Name)
		}
		r.keys = append(r.keys, ringKey{prefix, aead})
	}
	return r, nil
}

// seal makes of an encoded object what is stored under an etcd key.
func (r *keyring) seal(gr client.Resource, key string, plain []byte) []byte {
	if !slices.Contains(r.resources, gr) {
		return plain
	}
	k := r.keys[0]
	out := make([]byte, len(k.prefix)+nonceBytes, len(k.prefix)+nonceBytes+len(plain)+k.aead.Overhead())
	nonce := out[copy(out, k.prefix):]
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(out, nonce, plain, []byte(key))
}

// open is the reverse of seal. stale says that seal would store it otherwise
// today: under another key, or not encrypted, or encrypted.
func (r *keyring) open(gr client.Resource, key string, value []byte) (plain []byte, stale bool, err error) {
	wanted := slices.Contains(r.resources, gr)
	if !bytes.HasPrefix(value, []byte(sealed)) {
		return value, wanted, nil
	}
	for i, k := range r.keys {
		rest, ok := bytes.CutPrefix(value, k.prefix)
		if !ok {
			continue
		}
		if len(rest) < nonceBytes {
			return nil, false, errors.New("cannot decrypt value: it is too short")
		}
		plain, err := k.aead.Open(nil, rest[:nonceBytes], rest[nonceBytes:], []byte(key))
		if err != nil {
			return nil, false, fmt.Errorf("cannot decrypt value with key %q: %w", keyName(k.prefix), err)
		}
		return plain, !wanted || i > 0, nil
	}
	return nil, false, fmt.Errorf("cannot decrypt value: no key for %q", value[:min(len(value), 64, bytesToNonce(value))])
}

func keyName(prefix []byte) string {
	return strings.TrimSuffix(strings.TrimPrefix(string(prefix), sealedAESGCM), ":")
}

// bytesToNonce is the length of what a sealed value says of itself: the part
// through its fifth colon (k8s:enc:provider:version:name:).
func bytesToNonce(value []byte) int {
	n := 0
	for range 5 {
		i := bytes.IndexByte(value[n:], ':')
		if i < 0 {
			return n
		}
		n += i + 1
	}
	return n
}
