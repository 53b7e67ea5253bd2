package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateProjected checks a volume made of several sources, which must not
// write to the same path.
func validateProjected(p *field.Path, pr *corev1.ProjectedVolumeSource) field.ErrorList {
	errs := validateMode(p.Child("defaultMode"), pr.DefaultMode)
	paths := map[string]bool{}
	once := func(target, owner string) {
		if target == "" {
			return
		}
		if paths[target] {
			errs = append(errs, field.Invalid(p, owner, "conflicting duplicate paths"))
		}
		paths[target] = true
	}
	for i := range pr.Sources {
		src, at := &pr.Sources[i], p.Child("sources").Index(i)
		if s := src.Secret; s != nil {
			errs = append(errs, required(at.Child("secret", "name"), s.Name, nil)...)
			errs = append(errs, validateItems(at.Child("secret", "items"), s.Items)...)
			for _, item := range s.Items {
				once(item.Path, s.Name)
			}
		}
		if c := src.ConfigMap; c != nil {
			errs = append(errs, required(at.Child("configMap", "name"), c.Name, nil)...)
			errs = append(errs, validateItems(at.Child("configMap", "items"), c.Items)...)
			for _, item := range c.Items {
				once(item.Path, c.Name)
			}
		}
		if d := src.DownwardAPI; d != nil {
			errs = append(errs, validateDownward(at.Child("downwardAPI"), d.Items)...)
			for _, item := range d.Items {
				once(item.Path, item.Path)
			}
		}
		if t := src.ServiceAccountToken; t != nil {
			errs = append(errs, validateTokenProjection(p.Child("path"), at.Child("serviceAccountToken", "expirationSeconds"), t)...)
		}
		if c := src.ClusterTrustBundle; c != nil {
			errs = append(errs, validateTrustBundleProjection(at.Child("clusterTrustBundle"), c)...)
			once(c.Path, c.Path)
		}
		if c := src.PodCertificate; c != nil {
			errs = append(errs, validatePodCertificateProjection(at.Child("podCertificate"), c)...)
			for _, target := range []string{c.CredentialBundlePath, c.KeyPath, c.CertificateChainPath} {
				once(target, target)
			}
		}
		if len(setFields(src)) > 1 {
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateTokenProjection(file, expiration *field.Path, t *corev1.ServiceAccountTokenProjection) field.ErrorList {
	var errs field.ErrorList
	switch seconds := deref(t.ExpirationSeconds); {
	case seconds < 600:
		errs = append(errs, field.Invalid(expiration, seconds, "may not specify a duration less than 10 minutes"))
	case seconds > 1<<32:
		errs = append(errs, field.Invalid(expiration, seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return append(errs, insidePath(file, t.Path)...)
}

func validateTrustBundleProjection(p *field.Path, c *corev1.ClusterTrustBundleProjection) field.ErrorList {
	var errs field.ErrorList
	switch {
	case c.Name != nil && c.SignerName != nil:
		errs = append(errs, field.Invalid(p, c, "only one of name and signerName may be used"))
	case c.Name != nil:
		if *c.Name == "" {
			errs = append(errs, field.Required(p.Child("name"), "must be a valid object name"))
		}
		if c.LabelSelector != nil {
			errs = append(errs, field.Invalid(p.Child("labelSelector"), c.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case c.SignerName != nil:
		if *c.SignerName == "" {
			errs = append(errs, field.Required(p.Child("signerName"), "must be a valid signer name"))
		}
		errs = append(errs, validateSelector(p.Child("labelSelector"), c.LabelSelector)...)
	default:
		errs = append(errs, field.Required(p, "either name or signerName must be specified"))
	}
	return append(errs, insidePath(p.Child("path"), c.Path)...)
}

func validatePodCertificateProjection(p *field.Path, c *corev1.PodCertificateProjection) field.ErrorList {
	errs := required(p.Child("signerName"), c.SignerName, nil)
	errs = append(errs, apivalidation.ValidateAnnotations(c.UserAnnotations, p.Child("userAnnotations"))...)
	errs = append(errs, supported(p.Child("keyType"), c.KeyType, "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")...)
	if s := c.MaxExpirationSeconds; s != nil {
		longest := int32(91 * 86400)
		if strings.HasPrefix(c.SignerName, "kubernetes.io/") {
			longest = 86400
		}
		at := p.Child("maxExpirationSeconds")
		if *s < 3600 {
			errs = append(errs, field.Invalid(at, *s, "if provided, maxExpirationSeconds must be >= 3600"))
		}
		if *s > longest {
			errs = append(errs, field.Invalid(at, *s, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", longest)))
		}
	}
	none := true
	for _, f := range []struct{ name, target string }{
		{"credentialBundlePath", c.CredentialBundlePath}, {"keyPath", c.KeyPath}, {"certificateChainPath", c.CertificateChainPath},
	} {
		if f.target != "" {
			none = false
			errs = append(errs, insidePath(p.Child(f.name), f.target)...)
		}
	}
	if none {
		errs = append(errs, field.Required(p, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	return errs
}
