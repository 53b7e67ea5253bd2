package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/admission"
	"binnacle.io/core/client"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// change makes the object that shall replace cur, which it must not modify. It
// may be called again with a newer cur. owned says that managedFields have
// been computed (apply).
type change func(ctx context.Context, cur client.Object) (next client.Object, owned bool, err error)

// errRemove ends an update whose outcome is that the object goes away: it was
// deleted and nothing holds it any more.
var errRemove = errors.New("nothing holds the deleted object any more")

// update replaces the object of q.key by what ch makes of it.
func (s *Server) update(ctx context.Context, q *request, ch change) (result, error) {
	var last *admission.Attributes
	done := func(committed bool) {
		if last != nil {
			last.Done(committed)
			q.warn(last.Warnings()...)
			last = nil
		}
	}
	defer done(false)
	var remove client.Object
	apply := func(cur *store.Entry) (client.Object, error) {
		done(false)
		next, attrs, err := s.prepareUpdate(ctx, q, cur.Object, ch)
		last = attrs
		if err != nil {
			return nil, err
		}
		if next != cur.Object && s.removable(q, next) {
			remove = next
			return nil, errRemove
		}
		return next, nil
	}
	if q.dryRun {
		cur, err := s.store.Get(ctx, q.gr(), q.key, store.Latest())
		if err != nil {
			return result{}, err
		}
		next, err := apply(cur)
		switch {
		case errors.Is(err, errRemove):
			return result{object: remove}, nil
		case err != nil:
			return result{}, err
		case next == cur.Object:
			return stored(cur), nil
		}
		return result{object: next}, nil
	}
	e, err := s.store.Update(ctx, q.gr(), q.key, store.Preconditions{}, apply)
	if errors.Is(err, errRemove) {
		return s.removeUpdated(ctx, q, remove, done)
	}
	if err != nil {
		return result{}, err
	}
	done(true)
	return stored(e), nil
}

// removeUpdated deletes an object that an update would have left with nothing
// to hold it; if it changed meanwhile, the client must decide anew.
func (s *Server) removeUpdated(ctx context.Context, q *request, next client.Object, done func(bool)) (result, error) {
	pre := store.Preconditions{UID: next.GetUID(), Revision: revisionOf(next)}
	e, err := s.store.Delete(ctx, q.gr(), q.key, pre, func(*store.Entry) error { return nil })
	if err != nil {
		return result{}, err
	}
	done(true)
	next.SetResourceVersion(e.Object.GetResourceVersion())
	return result{object: next, gone: true}, nil
}

// removable reports that obj is deleted and nothing holds it.
func (s *Server) removable(q *request, obj client.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if g := obj.GetDeletionGracePeriodSeconds(); g != nil && *g != 0 {
		return false
	}
	return q.kind.Held == nil || !q.kind.Held(obj)
}

// prepareUpdate runs everything between the decoded change and the store. It
// returns cur itself when nothing changes.
func (s *Server) prepareUpdate(ctx context.Context, q *request, cur client.Object, ch change) (client.Object, *admission.Attributes, error) {
	k := q.kind
	next, owned, err := ch(ctx, cur)
	if err != nil {
		return nil, nil, err
	}
	if uid := next.GetUID(); uid != "" && uid != cur.GetUID() {
		return nil, nil, uidConflict(q, uid, cur.GetUID())
	}
	if rv := next.GetResourceVersion(); rv != "" && rv != "0" && rv != cur.GetResourceVersion() {
		return nil, nil, conflict(q.asked(), q.key.Name, "%s", optimisticLock)
	}
	carryOver(next, cur)
	q.warn(singleOwners(next)...)
	if !slices.EqualFunc(next.GetManagedFields(), cur.GetManagedFields(), sameEntry) {
		dropManaged(next)
	}
	setDefaults(k, next)
	if !owned {
		next = s.own(q, cur, next, q.manager)
	}
	attrs := s.admissionAttributes(q, admission.Update, next, cur)
	if err := s.admission.Mutate(ctx, attrs); err != nil {
		return nil, attrs, err
	}
	next = attrs.Object
	setDefaults(k, next)
	carryOver(next, cur)
	prepare, validate := k.PrepareUpdate, q.as.validateUpdate()
	if q.sub != nil && (q.sub.Name != "scale") {
		prepare, validate = q.sub.PrepareUpdate, q.sub.ValidateUpdate
	}
	if prepare != nil {
		prepare(next, cur)
	}
	errs := validation.ValidateObjectMetaAccessorUpdate(next, cur, field.NewPath("metadata"))
	errs = append(errs, validation.ValidateFinalizers(next.GetFinalizers(), field.NewPath("metadata", "finalizers"))...)
	errs = append(errs, k.ValidateFinalizers(next)...)
	if validate != nil {
		errs = append(errs, validate(next, cur)...)
	}
	if len(errs) > 0 {
		return nil, attrs, apierrors.NewInvalid(k.Hub.GroupKind(), q.key.Name, errs)
	}
	if err := s.admission.Validate(ctx, attrs); err != nil {
		return nil, attrs, err
	}
	switch {
	case q.sub != nil:
	case k.WarningsOnUpdate != nil:
		q.warn(k.WarningsOnUpdate(next, cur)...)
	case k.Warnings != nil:
		q.warn(k.Warnings(next)...)
	}
	if unchanged(next, cur) {
		return cur, attrs, nil
	}
	if q.dryRun {
		next, err := s.store.Rehearse(q.gr(), next)
		return next, attrs, err
	}
	if !k.Untraced && (next.GetGeneration() != cur.GetGeneration() || q.subName() != "status" && desiredChanged(next, cur)) {
		setTrace(next, telemetry.Traceparent(ctx))
	}
	return next, attrs, nil
}

// uidConflict is upstream's answer to a write meant for another object of the
// name, its storage's words included.
func uidConflict(q *request, want, have types.UID) error {
	return conflict(q.asked(), q.key.Name, "StorageError: invalid object, Code: 4, Key: /registry/%s/%s, ResourceVersion: 0, "+
		"AdditionalErrorMsg: Precondition failed: UID in precondition: %v, UID in object meta: %v", q.kind.Prefix, q.key, want, have)
}

// carryOver keeps what no update may change. A deletion that an update makes up
// is left for validation to refuse.
func carryOver(next, cur client.Object) {
	next.SetUID(cur.GetUID())
	next.SetCreationTimestamp(cur.GetCreationTimestamp())
	if t := cur.GetDeletionTimestamp(); t != nil {
		next.SetDeletionTimestamp(t)
	}
	if g := cur.GetDeletionGracePeriodSeconds(); g != nil && next.GetDeletionGracePeriodSeconds() == nil {
		next.SetDeletionGracePeriodSeconds(g)
	}
	next.SetGeneration(cur.GetGeneration())
	next.SetResourceVersion(cur.GetResourceVersion())
	next.SetSelfLink("")
	if next.GetNamespace() == "" || cur.GetNamespace() == "" {
		next.SetNamespace(cur.GetNamespace())
	}
	if next.GetName() == "" {
		next.SetName(cur.GetName())
	}
	if next.GetGenerateName() == "" {
		next.SetGenerateName(cur.GetGenerateName())
	}
	keepTrace(next, cur)
}

// unchanged reports that a write of next over cur would change nothing: apart
// from the times in managedFields, which alone are no reason to write.
func unchanged(next, cur client.Object) bool {
	if len(next.GetManagedFields()) != len(cur.GetManagedFields()) || !maps.Equal(next.GetLabels(), cur.GetLabels()) ||
		!slices.Equal(next.GetFinalizers(), cur.GetFinalizers()) || next.GetGeneration() != cur.GetGeneration() {
		return false
	}
	mine := next.GetManagedFields()
	theirs := cur.GetManagedFields()
	for i := range mine {
		a, b := mine[i], theirs[i]
		a.Time, b.Time = nil, nil
		if !equality.Semantic.DeepEqual(a, b) {
			return false
		}
	}
	next.SetManagedFields(theirs)
	same := equality.Semantic.DeepEqual(next, cur)
	next.SetManagedFields(mine)
	return same
}

// replace is the change of a PUT: the whole object as sent.
func replace(q *request, obj client.Object) change {
	return func(_ context.Context, cur client.Object) (client.Object, bool, error) {
		next := clone(obj)
		if next.GetName() != "" && next.GetName() != q.key.Name {
			return nil, false, badRequest("the name of the object (%s) does not match the name on the URL (%s)", next.GetName(), q.key.Name)
		}
		// Another object of the name is told first.
		if uid := next.GetUID(); uid == "" || uid == cur.GetUID() {
			if err := checkVersion(q, next); err != nil {
				return nil, false, err
			}
		}
		return next, false, nil
	}
}

// checkVersion refuses a PUT whose resourceVersion is none, or is not there
// where the kind demands one.
func checkVersion(q *request, obj client.Object) error {
	at := field.NewPath("metadata", "resourceVersion")
	rv := obj.GetResourceVersion()
	n, err := strconv.ParseUint(rv, 10, 64)
	switch {
	case rv != "" && err != nil:
		return apierrors.NewInvalid(q.kind.Hub.GroupKind(), q.key.Name, field.ErrorList{field.Invalid(at, rv, err.Error())})
	case n == 0 && q.kind.VersionedUpdate:
		// Upstream names the resource here, not the kind.
		return apierrors.NewInvalid(schema.GroupKind{Group: q.gr().Group, Kind: q.gr().Resource}, q.key.Name,
			field.ErrorList{field.Invalid(at, 0, "must be specified for an update")})
	}
	return nil
}
