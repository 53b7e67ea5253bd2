package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
)

// chains verifies client certificates against some roots and remembers those
// that passed: the requests of one client come with the same certificate.
type chains struct {
	roots  *x509.CertPool
	now    func() time.Time
	passed *cache.LRUExpireCache
}

const (
	rememberedClients = 1024
	rememberedFor     = time.Minute
)

func newChains(roots *x509.CertPool, now func() time.Time) *chains {
	if now == nil {
		now = time.Now
	}
	return &chains{roots, now, cache.NewLRUExpireCacheWithClock(rememberedClients, clockFunc(now))}
}

type clockFunc func() time.Time

func (f clockFunc) Now() time.Time { return f() }

// fingerprint identifies a certificate by its content.
type fingerprint [sha256.Size]byte

// verify checks a client's certificate with the intermediates it sent, and
// returns its fingerprint.
func (c *chains) verify(sent []*x509.Certificate) (fingerprint, error) {
	cert, now := sent[0], c.now()
	sum := fingerprint(sha256.Sum256(cert.Raw))
	if _, ok := c.passed.Get(sum); ok && !now.After(cert.NotAfter) {
		return sum, nil
	}
	opts := x509.VerifyOptions{
		Roots: c.roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, Intermediates: x509.NewCertPool(),
	}
	for _, i := range sent[1:] {
		opts.Intermediates.AddCert(i)
	}
	if _, err := cert.Verify(opts); err != nil {
		return sum, fmt.Errorf("cannot verify client certificate of %q (serial %s): %w", cert.Subject.CommonName, cert.SerialNumber, err)
	}
	c.passed.Add(sum, true, rememberedFor)
	return sum, nil
}

// ReadCertificates reads the PEM certificates of a file.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot use certificate %d of %s: %w", len(certs)+1, path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("cannot use %s: it holds no PEM certificate", path)
	}
	return certs, nil
}
