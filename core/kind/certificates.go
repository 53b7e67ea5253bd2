package kind

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func certificateSigningRequestKind(gv schema.GroupVersion) *Kind {
	type csr = certificatesv1.CertificateSigningRequest
	k := define[csr, certificatesv1.CertificateSigningRequestList](gv, "certificatesigningrequests", "csr").inCluster()
	// Who asks (username, uid, groups, extra) is filled in by admission: it
	// is the identity of the request and never what the body says.
	k.PrepareCreate = do1(func(c *csr) { c.Status = certificatesv1.CertificateSigningRequestStatus{} })
	k.PrepareUpdate = do2(func(c, old *csr) {
		c.Spec = *old.Spec.DeepCopy()
		c.Status = *old.Status.DeepCopy()
	})
	k.ValidateName = segment
	k.Validate = check1(validateCSR)
	k.ValidateUpdate = check2(func(c, _ *csr) field.ErrorList { return nil })
	k.Fields = select1(func(c *csr) fields.Set { return fields.Set{"spec.signerName": c.Spec.SignerName} })
	doc := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()
	k.Columns = named[*csr]().
		age().
		text("SignerName", doc["signerName"], func(c *csr) string { return c.Spec.SignerName }).
		text("Requestor", doc["request"], func(c *csr) string { return c.Spec.Username }).
		text("RequestedDuration", doc["expirationSeconds"], func(c *csr) string {
			if c.Spec.ExpirationSeconds == nil {
				return "<none>"
			}
			return duration.HumanDuration(time.Duration(*c.Spec.ExpirationSeconds) * time.Second)
		}).
		text("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"], csrCondition)
	k.Subresources = []Subresource{
		{
			Name:  "approval",
			Verbs: readWrite(),
			PrepareUpdate: do2(func(c, old *csr) {
				conditions := c.Status.Conditions
				c.Spec, c.Status = *old.Spec.DeepCopy(), *old.Status.DeepCopy()
				c.Status.Conditions = conditions
			}),
			ValidateUpdate: check2(validateCSRConditions),
		},
		status(func(c, old *csr) { c.Spec = *old.Spec.DeepCopy() }, validateCSRStatus),
	}
	return k
}

func validateCSR(c *certificatesv1.CertificateSigningRequest) field.ErrorList {
	p, s := field.NewPath("spec"), &c.Spec
	var errs field.ErrorList
	block, rest := pem.Decode(s.Request)
	switch {
	case block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0:
		errs = append(errs, field.Invalid(p.Child("request"), s.Request, "PEM block type must be CERTIFICATE REQUEST"))
	default:
		if _, err := x509.ParseCertificateRequest(block.Bytes); err != nil {
			errs = append(errs, field.Invalid(p.Child("request"), s.Request, fmt.Sprint(err)))
		}
	}
	if len(s.Usages) == 0 {
		errs = append(errs, field.Required(p.Child("usages"), ""))
	}
	seen := map[certificatesv1.KeyUsage]bool{}
	for i, u := range s.Usages {
		errs = append(errs, supported(p.Child("usages").Index(i), u, keyUsages()...)...)
		if seen[u] {
			errs = append(errs, field.Duplicate(p.Child("usages").Index(i), u))
		}
		seen[u] = true
	}
	errs = append(errs, validateSigner(p.Child("signerName"), s.SignerName)...)
	if s.SignerName == "kubernetes.io/legacy-unknown" {
		errs = append(errs, field.Invalid(p.Child("signerName"), s.SignerName, "the legacy signerName is not allowed via this API version"))
	}
	if s.ExpirationSeconds != nil && *s.ExpirationSeconds < 600 {
		errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *s.ExpirationSeconds, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return errs
}

// keyUsages are all that a certificate may be asked for, sorted.
func keyUsages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{
		certificatesv1.UsageAny, certificatesv1.UsageCertSign, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
		certificatesv1.UsageContentCommitment, certificatesv1.UsageCRLSign, certificatesv1.UsageDataEncipherment, certificatesv1.UsageDecipherOnly,
		certificatesv1.UsageDigitalSignature, certificatesv1.UsageEmailProtection, certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem,
		certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement, certificatesv1.UsageKeyEncipherment,
		certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC, certificatesv1.UsageOCSPSigning, certificatesv1.UsageSMIME,
		certificatesv1.UsageServerAuth, certificatesv1.UsageSigning, certificatesv1.UsageTimestamping,
	}
}

// validateSigner checks domain/path, both of labels.
func validateSigner(p *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(p, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	for _, label := range strings.Split(domain, ".") {
		for _, m := range validation.IsDNS1123Label(label) {
			errs = append(errs, field.Invalid(p, domain, fmt.Sprintf("validating label %q: %s", label, m)))
		}
	}
	if len(errs) == 0 && len(strings.Split(domain, ".")) < 2 {
		errs = append(errs, field.Invalid(p, domain, "should be a domain with at least two segments separated by dots"))
	}
	return append(errs, invalids(p, rest, validation.IsDNS1123Subdomain(rest))...)
}

// decided says that a condition is a decision, which is never taken back.
func decided(t certificatesv1.RequestConditionType) bool {
	return t == certificatesv1.CertificateApproved || t == certificatesv1.CertificateDenied || t == certificatesv1.CertificateFailed
}

func validateCSRConditions(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	p := field.NewPath("status", "conditions")
	var errs field.ErrorList
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, cond := range c.Status.Conditions {
		at := p.Index(i)
		errs = append(errs, required(at.Child("type"), string(cond.Type), nil)...)
		if !decided(cond.Type) {
			errs = append(errs, oneOf(at.Child("status"), cond.Status, corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
		} else if cond.Status == "" {
			errs = append(errs, field.Required(at.Child("status"), ""))
		} else if cond.Status != corev1.ConditionTrue {
			errs = append(errs, field.NotSupported(at.Child("status"), cond.Status, []string{string(corev1.ConditionTrue)}))
		}
		if seen[cond.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), cond.Type))
		}
		seen[cond.Type] = true
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(p, certificatesv1.CertificateApproved, "Approved and Denied conditions are mutually exclusive"))
	}
	for _, cond := range old.Status.Conditions {
		if decided(cond.Type) && !seen[cond.Type] {
			errs = append(errs, field.Forbidden(p, fmt.Sprintf("updates may not remove a condition of type %q", cond.Type)))
		}
	}
	return errs
}

func validateCSRStatus(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := validateCSRConditions(c, old)
	// Who may sign may not approve by it.
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		has := func(r *certificatesv1.CertificateSigningRequest) bool {
			return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == t })
		}
		if has(c) && !has(old) {
			errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not add a condition of type %q", t)))
		}
	}
	if len(old.Status.Certificate) > 0 && !apiequality.Semantic.DeepEqual(c.Status.Certificate, old.Status.Certificate) {
		errs = append(errs, field.Forbidden(field.NewPath("status", "certificate"), "updates may not set or modify existing certificate content"))
	}
	return errs
}

func csrCondition(c *certificatesv1.CertificateSigningRequest) string {
	var approved, denied, failed bool
	for _, cond := range c.Status.Conditions {
		switch cond.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		case certificatesv1.CertificateFailed:
			failed = true
		}
	}
	out := "Pending"
	if denied {
		out = "Denied"
	} else if approved {
		out = "Approved"
	}
	if failed {
		out += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		out += ",Issued"
	}
	return out
}

func clusterTrustBundleKind(gv schema.GroupVersion) *Kind {
	k := define[certificatesv1.ClusterTrustBundle, certificatesv1.ClusterTrustBundleList](gv, "clustertrustbundles").inCluster()
	k.ValidateName = segment
	validate := func(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
		p := field.NewPath("spec")
		var errs field.ErrorList
		if b.Spec.SignerName != "" {
			errs = append(errs, validateSigner(p.Child("signerName"), b.Spec.SignerName)...)
			if prefix := strings.ReplaceAll(b.Spec.SignerName, "/", ":") + ":"; !strings.HasPrefix(b.Name, prefix) {
				errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), b.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", b.Spec.SignerName, prefix)))
			}
		}
		rest := []byte(b.Spec.TrustBundle)
		found := 0
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			found++
			if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
				errs = append(errs, field.Invalid(p.Child("trustBundle"), "<value omitted>", fmt.Sprintf("entry %d is not a certificate", found-1)))
			}
		}
		if found == 0 {
			errs = append(errs, field.Invalid(p.Child("trustBundle"), "<value omitted>", "at least one trust anchor must be provided"))
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
		return append(validate(b), unchanged(field.NewPath("spec", "signerName"), b.Spec.SignerName, old.Spec.SignerName)...)
	})
	k.Fields = select1(func(b *certificatesv1.ClusterTrustBundle) fields.Set {
		return fields.Set{"spec.signerName": b.Spec.SignerName}
	})
	k.Columns = named[*certificatesv1.ClusterTrustBundle]().
		text("SignerName", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"], func(b *certificatesv1.ClusterTrustBundle) string {
			return orNone(b.Spec.SignerName)
		})
	return k
}

func podCertificateRequestKind(gv schema.GroupVersion) *Kind {
	type pcr = certificatesv1.PodCertificateRequest
	k := define[pcr, certificatesv1.PodCertificateRequestList](gv, "podcertificaterequests")
	k.Default = do1(func(r *pcr) { orPointer(&r.Spec.MaxExpirationSeconds, 86400) })
	k.PrepareCreate = do1(func(r *pcr) { r.Status = certificatesv1.PodCertificateRequestStatus{} })
	k.PrepareUpdate = do2(func(r, old *pcr) { r.Status = *old.Status.DeepCopy() })
	k.Validate = check1(func(r *pcr) field.ErrorList {
		p, s := field.NewPath("spec"), &r.Spec
		errs := validateSigner(p.Child("signerName"), s.SignerName)
		errs = append(errs, required(p.Child("podName"), s.PodName, subdomain)...)
		errs = append(errs, required(p.Child("podUID"), string(s.PodUID), nil)...)
		errs = append(errs, required(p.Child("serviceAccountName"), s.ServiceAccountName, subdomain)...)
		errs = append(errs, required(p.Child("nodeName"), string(s.NodeName), path.IsValidPathSegmentName)...)
		return errs
	})
	k.ValidateUpdate = check2(func(r, old *pcr) field.ErrorList {
		return unchanged(field.NewPath("spec"), r.Spec, old.Spec)
	})
	k.Fields = select1(func(r *pcr) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName)}
	})
	doc := certificatesv1beta1.PodCertificateRequestSpec{}.SwaggerDoc()
	k.Columns = named[*pcr]().
		text("PodName", doc["podName"], func(r *pcr) string { return r.Spec.PodName }).
		text("ServiceAccountName", doc["serviceAccountName"], func(r *pcr) string { return r.Spec.ServiceAccountName }).
		text("NodeName", doc["nodeName"], func(r *pcr) string { return string(r.Spec.NodeName) }).
		text("SignerName", doc["signerName"], func(r *pcr) string { return r.Spec.SignerName }).
		text("State", "Is the request Pending, Issued, Denied, or Failed?", func(r *pcr) string {
			state := "Pending"
			for _, c := range r.Status.Conditions {
				switch c.Type {
				case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
					certificatesv1.PodCertificateRequestConditionTypeFailed:
					state = c.Type
				}
			}
			return state
		}).
		text("UnverifiedUserAnnotations", doc["unverifiedUserAnnotations"], func(r *pcr) string {
			return labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)
		}).wide()
	k.Subresources = []Subresource{status(func(r, old *pcr) { r.Spec = *old.Spec.DeepCopy() }, nil)}
	return k
}
