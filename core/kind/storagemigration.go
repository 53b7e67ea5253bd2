package kind

import (
	"strings"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func storageVersionMigrationKind(gv schema.GroupVersion) *Kind {
	type migration = storagemigrationv1.StorageVersionMigration
	k := define[migration, storagemigrationv1.StorageVersionMigrationList](gv, "storageversionmigrations").inCluster()
	k.PrepareCreate = do1(func(m *migration) { m.Status = storagemigrationv1.StorageVersionMigrationStatus{} })
	k.PrepareUpdate = do2(func(m, old *migration) { m.Status = *old.Status.DeepCopy() })
	validate := func(m *migration) field.ErrorList {
		p, r := field.NewPath("spec", "resource"), m.Spec.Resource
		var errs field.ErrorList
		if r.Resource == "" {
			errs = append(errs, field.Required(p.Child("resource"), "resource is required to be set"))
		} else if msgs := validation.IsDNS1035Label(r.Resource); len(msgs) > 0 {
			errs = append(errs, field.Invalid(p.Child("resource"), r.Resource, strings.Join(msgs, ",")))
		}
		if r.Group != "" {
			if msgs := validation.IsDNS1123Subdomain(r.Group); len(msgs) > 0 {
				errs = append(errs, field.Invalid(p.Child("group"), r.Group, strings.Join(msgs, ",")))
			}
		}
		return errs
	}
	k.Validate = check1(validate)
	k.ValidateUpdate = check2(func(m, old *migration) field.ErrorList {
		return append(validate(m), unchanged(field.NewPath("spec"), m.Spec, old.Spec)...)
	})
	k.Subresources = []Subresource{status(func(m, old *migration) { m.Spec = *old.Spec.DeepCopy() }, validateMigrationStatus)}
	k.Columns = named[*migration]().
		text("Resource", "GroupResource to migrate", func(m *migration) string { return m.Spec.Resource.String() }).
		text("Status", "Status of the migration", func(m *migration) string {
			state := "Unknown"
			for _, c := range m.Status.Conditions {
				switch t := storagemigrationv1.MigrationConditionType(c.Type); t {
				case storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationFailed, storagemigrationv1.MigrationSucceeded:
					if c.Status == metav1.ConditionTrue {
						state = c.Type
					}
				}
			}
			return state
		})
	return k
}

func validateMigrationStatus(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	p := field.NewPath("status")
	var errs field.ErrorList
	if v := m.Status.ResourceVersion; v != "" {
		if _, err := resourceversion.CompareResourceVersion(v, v); err != nil {
			errs = append(errs, field.Invalid(p.Child("resourceVersion"), v, err.Error()))
		}
	}
	errs = append(errs, metav1validation.ValidateConditions(m.Status.Conditions, p.Child("conditions"))...)
	if was, is := old.Status.ResourceVersion, m.Status.ResourceVersion; was != "" && was != is {
		errs = append(errs, field.Invalid(p.Child("resourceVersion"), is, immutable))
	}
	is := func(m *storagemigrationv1.StorageVersionMigration, t storagemigrationv1.MigrationConditionType) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, string(t))
	}
	at, succeeded, failed := p.Child("conditions"), storagemigrationv1.MigrationSucceeded, storagemigrationv1.MigrationFailed
	if is(m, succeeded) && is(m, failed) {
		errs = append(errs, field.Invalid(at, m.Status.Conditions, "Both success and failed conditions cannot be true at the same time"))
	}
	if is(old, succeeded) && !is(m, succeeded) {
		errs = append(errs, field.Invalid(at, m.Status.Conditions, "Success condition cannot be set to false once it is true"))
	}
	if is(old, failed) && !is(m, failed) {
		errs = append(errs, field.Invalid(at, m.Status.Conditions, "Failed condition cannot be set to false once it is true"))
	}
	return errs
}
