package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"binnacle.io/core/cluster/atomicfile"
)

// directory reads and writes the files of one PKI.
type directory struct {
	cfg  Config
	made *[]string
}

// authority reads, renews or makes a CA. dependents are the files it signs: if
// some exist, a lost key is not replaced.
func (d *directory) authority(file, name string, dependents []string) (*Pair, error) {
	cert, certPEM, err := d.readCert(file + ".crt")
	if err != nil {
		return nil, err
	}
	key, keyPEM, err := d.readKey(file + ".key")
	if err != nil {
		return nil, err
	}
	if key == nil && cert != nil {
		return nil, fmt.Errorf("cannot use certificate authority %s: its key %s is missing; restore it from a backup, or remove %s to start a new cluster identity",
			d.path(file+".crt"), d.path(file+".key"), d.cfg.Dir)
	}
	if key == nil {
		for _, dep := range dependents {
			if _, err := os.Stat(d.path(dep + ".crt")); err == nil {
				return nil, fmt.Errorf("cannot make a new certificate authority: %s is missing but %s, which it signed, exists; restore it from a backup, or remove %s to start a new cluster identity",
					d.path(file+".key"), d.path(dep+".crt"), d.cfg.Dir)
			}
		}
		if key, keyPEM, err = d.makeKey(file + ".key"); err != nil {
			return nil, err
		}
	}
	if cert != nil && !samePublic(cert.PublicKey, key.Public()) {
		return nil, fmt.Errorf("cannot use certificate authority %s: %s is not its key; restore the pair from a backup, or remove %s to start a new cluster identity",
			d.path(file+".crt"), d.path(file+".key"), d.cfg.Dir)
	}
	if cert != nil && !cert.IsCA {
		return nil, fmt.Errorf("cannot use certificate authority %s: it is not a CA certificate; restore it from a backup", d.path(file+".crt"))
	}
	if cert == nil || due(cert, d.cfg.Now()) {
		t := &x509.Certificate{
			Subject:               pkix.Name{CommonName: name},
			DNSNames:              []string{name},
			KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
			BasicConstraintsValid: true,
			IsCA:                  true,
		}
		if cert, certPEM, err = d.sign(file+".crt", t, d.cfg.AuthorityLife, key.Public(), t, key); err != nil {
			return nil, err
		}
	}
	return d.pair(file, cert, certPEM, key, keyPEM), nil
}

func (d *directory) leaf(l leaf, ca *Pair) (*Pair, error) {
	cert, certPEM, err := d.readCert(l.file + ".crt")
	if err != nil {
		return nil, err
	}
	key, keyPEM, err := d.readKey(l.file + ".key")
	if err != nil {
		return nil, err
	}
	if key == nil {
		cert = nil
		if key, keyPEM, err = d.makeKey(l.file + ".key"); err != nil {
			return nil, err
		}
	}
	if cert == nil || !samePublic(cert.PublicKey, key.Public()) || !l.fits(cert, ca.Cert, d.cfg.Now()) {
		if cert, certPEM, err = d.sign(l.file+".crt", l.template(), d.cfg.Life, key.Public(), ca.Cert, ca.Key); err != nil {
			return nil, err
		}
	}
	return d.pair(l.file, cert, certPEM, key, keyPEM), nil
}

func (d *directory) serviceAccountKey() (crypto.Signer, error) {
	key, _, err := d.readKey("sa.key")
	if err != nil {
		return nil, err
	}
	if key == nil {
		if key, _, err = d.makeKey("sa.key"); err != nil {
			return nil, err
		}
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("cannot encode the public half of %s: %w", d.path("sa.key"), err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	have, err := os.ReadFile(d.path("sa.pub"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, d.unreadable("sa.pub", err)
	}
	if bytes.Equal(have, text) {
		return key, nil
	}
	return key, d.write("sa.pub", text, 0o644)
}

func (d *directory) pair(file string, cert *x509.Certificate, certPEM []byte, key crypto.Signer, keyPEM []byte) *Pair {
	return &Pair{
		CertFile: d.path(file + ".crt"), KeyFile: d.path(file + ".key"),
		CertPEM: certPEM, KeyPEM: keyPEM, Cert: cert, Key: key,
	}
}

func (d *directory) sign(file string, t *x509.Certificate, life time.Duration, pub crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) (*x509.Certificate, []byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot draw a serial number for %s: %w", d.path(file), err)
	}
	now := d.cfg.Now().UTC()
	t.SerialNumber = serial.Add(serial, big.NewInt(1))
	// Clocks of other machines may be behind by a little.
	t.NotBefore = now.Add(-5 * time.Minute).Truncate(time.Second)
	t.NotAfter = now.Add(life).Truncate(time.Second)
	if parent != t && t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot sign certificate %s for %q: %w", d.path(file), t.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read back certificate %s: %w", d.path(file), err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return cert, text, d.write(file, text, 0o644)
}

func (d *directory) makeKey(file string) (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot generate key %s: %w", d.path(file), err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot encode key %s: %w", d.path(file), err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return key, text, d.write(file, text, 0o600)
}

func (d *directory) write(file string, text []byte, mode fs.FileMode) error {
	if err := atomicfile.Write(d.path(file), text, mode); err != nil {
		return err
	}
	*d.made = append(*d.made, file)
	return nil
}

func (d *directory) unreadable(file string, err error) error {
	return fmt.Errorf("cannot read %s: %w; make it readable for the user that runs binnacle, or restore it from a backup", d.path(file), err)
}

func (d *directory) corrupt(file, why string) error {
	return fmt.Errorf("cannot use %s: %s; restore it from a backup, or remove the file to have it made anew", d.path(file), why)
}

// readCert returns nil without error when there is no such file.
func (d *directory) readCert(file string) (*x509.Certificate, []byte, error) {
	text, err := os.ReadFile(d.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, d.unreadable(file, err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, d.corrupt(file, "it holds no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, d.corrupt(file, err.Error())
	}
	return cert, text, nil
}

// readKey returns nil without error when there is no such file. Keys made by
// others may be of any kind x509 knows.
func (d *directory) readKey(file string) (crypto.Signer, []byte, error) {
	text, err := os.ReadFile(d.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, d.unreadable(file, err)
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, nil, d.corrupt(file, "it holds no PEM private key")
		}
		var key any
		switch block.Type {
		case "EC PARAMETERS":
			continue
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			err = fmt.Errorf("it holds a PEM block of type %q, not a private key", block.Type)
		}
		if err != nil {
			return nil, nil, d.corrupt(file, err.Error())
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, nil, d.corrupt(file, fmt.Sprintf("a key of type %T cannot sign", key))
		}
		return signer, text, nil
	}
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
