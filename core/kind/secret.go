package kind

import (
	"crypto/tls"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func secretKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.Secret, corev1.SecretList](gv, "secrets")
	k.Default = do1(func(s *corev1.Secret) {
		orElse(&s.Type, corev1.SecretTypeOpaque)
		// stringData is for writing only and wins over data.
		for key, v := range s.StringData {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[key] = []byte(v)
		}
		s.StringData = nil
	})
	k.PrepareUpdate = do2(func(s, old *corev1.Secret) { orElse(&s.Type, old.Type) })
	k.Validate = check1(validateSecret)
	k.ValidateUpdate = check2(func(s, old *corev1.Secret) field.ErrorList {
		errs := unchanged(field.NewPath("type"), s.Type, old.Type)
		errs = append(errs, validateFrozen(s.Immutable, old.Immutable, frozenField{"data", s.Data, old.Data})...)
		return append(errs, validateSecret(s)...)
	})
	k.Warnings = warn1(func(s *corev1.Secret) []string {
		if s.Type != corev1.SecretTypeTLS {
			return nil
		}
		if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
			return []string{err.Error()}
		}
		return nil
	})
	k.Fields = select1(func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} })
	doc := corev1.Secret{}.SwaggerDoc()
	k.Columns = named[*corev1.Secret]().
		text("Type", doc["type"], func(s *corev1.Secret) string { return string(s.Type) }).
		count("Data", doc["data"], func(s *corev1.Secret) int64 { return int64(len(s.Data)) }).as("string").
		age()
	return k
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	data := field.NewPath("data")
	var errs field.ErrorList
	size := 0
	for _, key := range sortedKeys(s.Data) {
		errs = append(errs, invalids(data.Key(key), key, validation.IsConfigMapKey(key))...)
		size += len(s.Data[key])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", corev1.MaxSecretSize))
	}
	need := func(key string) {
		if _, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(data.Key(key), ""))
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			errs = append(errs, field.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), ""))
		}
	case corev1.SecretTypeDockercfg:
		errs = append(errs, validateDockerConfig(data, s, corev1.DockerConfigKey)...)
	case corev1.SecretTypeDockerConfigJson:
		errs = append(errs, validateDockerConfig(data, s, corev1.DockerConfigJsonKey)...)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			errs = append(errs, field.Required(data.Key(corev1.BasicAuthUsernameKey), ""), field.Required(data.Key(corev1.BasicAuthPasswordKey), ""))
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			errs = append(errs, field.Required(data.Key(corev1.SSHAuthPrivateKey), ""))
		}
	case corev1.SecretTypeTLS:
		need(corev1.TLSCertKey)
		need(corev1.TLSPrivateKeyKey)
	}
	return errs
}

func validateDockerConfig(data *field.Path, s *corev1.Secret, key string) field.ErrorList {
	body, ok := s.Data[key]
	if !ok {
		return field.ErrorList{field.Required(data.Key(key), "")}
	}
	var any map[string]any
	if err := json.Unmarshal(body, &any); err != nil {
		return field.ErrorList{field.Invalid(data.Key(key), "<secret contents redacted>", fmt.Sprint(err))}
	}
	return nil
}
