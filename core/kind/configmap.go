package kind

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func configMapKind(gv schema.GroupVersion) *Kind {
	k := define[corev1.ConfigMap, corev1.ConfigMapList](gv, "configmaps", "cm")
	k.Validate = check1(validateConfigMap)
	k.ValidateUpdate = check2(func(c, old *corev1.ConfigMap) field.ErrorList {
		errs := validateFrozen(c.Immutable, old.Immutable,
			frozenField{"data", c.Data, old.Data}, frozenField{"binaryData", c.BinaryData, old.BinaryData})
		return append(errs, validateConfigMap(c)...)
	})
	k.Columns = named[*corev1.ConfigMap]().
		count("Data", corev1.ConfigMap{}.SwaggerDoc()["data"], func(c *corev1.ConfigMap) int64 {
			return int64(len(c.Data) + len(c.BinaryData))
		}).as("string").
		age()
	return k
}

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for _, key := range sortedKeys(c.Data) {
		at := field.NewPath("data").Key(key)
		errs = append(errs, invalids(at, key, validation.IsConfigMapKey(key))...)
		if _, both := c.BinaryData[key]; both {
			errs = append(errs, field.Invalid(at, key, "duplicate of key present in binaryData"))
		}
		size += len(c.Data[key])
	}
	for _, key := range sortedKeys(c.BinaryData) {
		errs = append(errs, invalids(field.NewPath("binaryData").Key(key), key, validation.IsConfigMapKey(key))...)
		size += len(c.BinaryData[key])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), c, corev1.MaxSecretSize))
	}
	return errs
}

// frozenField is a part of an object that cannot change once it is immutable.
type frozenField struct {
	name     string
	now, old any
}

func validateFrozen(now, old *bool, parts ...frozenField) field.ErrorList {
	if !deref(old) {
		return nil
	}
	var errs field.ErrorList
	if !deref(now) {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set"))
	}
	for _, p := range parts {
		if !apiequality.Semantic.DeepEqual(p.now, p.old) {
			errs = append(errs, field.Forbidden(field.NewPath(p.name), "field is immutable when `immutable` is set"))
		}
	}
	return errs
}
