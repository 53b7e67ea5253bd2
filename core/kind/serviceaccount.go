package kind

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func serviceAccountKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.ServiceAccount, corev1.ServiceAccountList](gv, "serviceaccounts", "sa")
	k.Columns = named[*corev1.ServiceAccount]().
		count("Secrets", corev1.ServiceAccount{}.SwaggerDoc()["secrets"], func(sa *corev1.ServiceAccount) int64 {
			return int64(len(sa.Secrets))
		}).
		age()
	k.Subresources = []Subresource{{
		Name: "token", Body: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), Verbs: []string{"create"},
	}}
	k.Warnings = warn1(func(sa *corev1.ServiceAccount) []string {
		if len(sa.Secrets) > 0 && sa.Annotations["kubernetes.io/enforce-mountable-secrets"] == "true" {
			return []string{"metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
		}
		return nil
	})
	return k
}
