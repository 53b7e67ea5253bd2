package kind

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func serviceAccountKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.ServiceAccount, corev1.ServiceAccountList](gv, "serviceaccounts", "sa")
	k.Columns = named[*corev1.ServiceAccount]().age()
	k.Subresources = []Subresource{{
		Name: "token", Body: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), Verbs: []string{"create"},
	}}
	k.PrepareCreate = do1(nameSecrets)
	k.PrepareUpdate = do2(func(sa, _ *corev1.ServiceAccount) { nameSecrets(sa) })
	warnings := func(sa *corev1.ServiceAccount) []string {
		if _, ok := sa.Annotations[enforceMountable]; ok {
			return []string{"metadata.annotations[" + enforceMountable + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
		}
		return nil
	}
	k.Warnings = warn1(warnings)
	k.WarningsOnUpdate = func(obj, old Object) []string {
		if _, had := old.GetAnnotations()[enforceMountable]; had {
			return nil
		}
		return warnings(obj.(*corev1.ServiceAccount))
	}
	return k
}

const enforceMountable = "kubernetes.io/enforce-mountable-secrets"

// nameSecrets keeps of the references what they are for: names.
func nameSecrets(sa *corev1.ServiceAccount) {
	for i := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: sa.Secrets[i].Name}
	}
}
