package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// Request is a certificate that somebody asks an authority for.
type Request struct {
	// CSR is PEM. Its subject and alternative names are signed as they are;
	// who is allowed which is not decided here.
	CSR    []byte
	Usages []certificatesv1.KeyUsage
	// Life is how long the certificate is good; at most as long as the CA.
	Life time.Duration
	Now  time.Time
}

const (
	// backdate is for the clocks of other machines, which may be behind.
	backdate = 5 * time.Minute
	// shortLife is below which the five minutes are not taken off the end:
	// they would be a good part of the whole.
	shortLife = 8 * time.Hour
)

// ParseCSR reads a certificate request in PEM and checks that whoever made it
// holds the key.
func ParseCSR(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot parse certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("cannot verify certificate request of %q: %w", req.Subject.CommonName, err)
	}
	return req, nil
}

// Issue signs a certificate with the authority p and returns it in PEM.
func (p *Pair) Issue(r Request) ([]byte, error) {
	req, err := ParseCSR(r.CSR)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, EmailAddresses: req.EmailAddresses, URIs: req.URIs,
		BasicConstraintsValid: true,
		NotBefore:             r.Now.Add(-backdate), NotAfter: r.Now.Add(r.Life),
	}
	if t.KeyUsage, t.ExtKeyUsage, err = usages(r.Usages); err != nil {
		return nil, err
	}
	if r.Life >= shortLife {
		t.NotAfter = t.NotAfter.Add(-backdate)
	}
	if t.NotAfter.After(p.Cert.NotAfter) {
		t.NotAfter = p.Cert.NotAfter
	}
	if !r.Now.Before(p.Cert.NotAfter) {
		return nil, fmt.Errorf("cannot sign a certificate for %q: the authority %q expired at %v", req.Subject.CommonName, p.Cert.Subject.CommonName, p.Cert.NotAfter)
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128)); err != nil {
		return nil, fmt.Errorf("cannot draw a serial number for %q: %w", req.Subject.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, p.Cert, req.PublicKey, p.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a certificate for %q: %w", req.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func usages(names []certificatesv1.KeyUsage) (usage x509.KeyUsage, extended []x509.ExtKeyUsage, err error) {
	plain := map[certificatesv1.KeyUsage]x509.KeyUsage{
		certificatesv1.UsageSigning: x509.KeyUsageDigitalSignature, certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
		certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment, certificatesv1.UsageKeyEncipherment: x509.KeyUsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement: x509.KeyUsageKeyAgreement, certificatesv1.UsageDataEncipherment: x509.KeyUsageDataEncipherment,
		certificatesv1.UsageCertSign: x509.KeyUsageCertSign, certificatesv1.UsageCRLSign: x509.KeyUsageCRLSign,
		certificatesv1.UsageEncipherOnly: x509.KeyUsageEncipherOnly, certificatesv1.UsageDecipherOnly: x509.KeyUsageDecipherOnly,
	}
	more := map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
		certificatesv1.UsageAny: x509.ExtKeyUsageAny, certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth,
		certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth, certificatesv1.UsageCodeSigning: x509.ExtKeyUsageCodeSigning,
		certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection, certificatesv1.UsageSMIME: x509.ExtKeyUsageEmailProtection,
		certificatesv1.UsageIPsecEndSystem: x509.ExtKeyUsageIPSECEndSystem, certificatesv1.UsageIPsecTunnel: x509.ExtKeyUsageIPSECTunnel,
		certificatesv1.UsageIPsecUser: x509.ExtKeyUsageIPSECUser, certificatesv1.UsageTimestamping: x509.ExtKeyUsageTimeStamping,
		certificatesv1.UsageOCSPSigning: x509.ExtKeyUsageOCSPSigning, certificatesv1.UsageMicrosoftSGC: x509.ExtKeyUsageMicrosoftServerGatedCrypto,
		certificatesv1.UsageNetscapeSGC: x509.ExtKeyUsageNetscapeServerGatedCrypto,
	}
	for _, name := range names {
		u, isPlain := plain[name]
		x, isMore := more[name]
		switch {
		case isPlain:
			usage |= u
		case isMore:
			extended = append(extended, x)
		default:
			return 0, nil, fmt.Errorf("unrecognized usage %q", name)
		}
	}
	return usage, extended, nil
}
