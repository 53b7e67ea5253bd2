package kind

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func leaseKind(gv schema.GroupVersion) *Kind {
	k := define[coordinationv1.Lease, coordinationv1.LeaseList](gv, "leases")
	k.AnyFinalizer = true
	k.Untraced = true
	// Coordinated leader election is off by default upstream, and its fields are not kept.
	k.PrepareCreate = do1(dropCoordination)
	k.PrepareUpdate = do2(func(l, _ *coordinationv1.Lease) { dropCoordination(l) })
	k.Validate = check1(validateLease)
	k.ValidateUpdate = check2(func(l, _ *coordinationv1.Lease) field.ErrorList { return validateLease(l) })
	k.Columns = named[*coordinationv1.Lease]().
		text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"], func(l *coordinationv1.Lease) string {
			return deref(l.Spec.HolderIdentity)
		}).
		age()
	return k
}

func dropCoordination(l *coordinationv1.Lease) { l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil }

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	p := field.NewPath("spec")
	var errs field.ErrorList
	if n := l.Spec.LeaseDurationSeconds; n != nil && *n <= 0 {
		errs = append(errs, field.Invalid(p.Child("leaseDurationSeconds"), *n, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(p.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	return errs
}
