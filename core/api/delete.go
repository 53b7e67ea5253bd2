package api

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/admission"
	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

func revisionOf(o metav1.Object) int64 {
	rv, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return rv
}

func validateDeleteOptions(opts *metav1.DeleteOptions) error {
	if errs := metavalidation.ValidateDeleteOptions(opts); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return nil
}

// delete removes the object of q.key, or marks it as to be removed.
func (s *Server) delete(ctx context.Context, q *request, opts *metav1.DeleteOptions) (result, error) {
	if err := validateDeleteOptions(opts); err != nil {
		return result{}, err
	}
	//nolint:staticcheck // the deprecated option still says it
	if w := q.kind.OrphanWarning; w != "" && opts.PropagationPolicy == nil && opts.OrphanDependents == nil {
		q.warn(w)
	}
	cur, err := s.store.Get(ctx, q.gr(), q.key, store.Latest())
	if err != nil {
		return result{}, err
	}
	attrs := s.admissionAttributes(q, admission.Delete, nil, cur.Object)
	committed := false
	defer func() {
		attrs.Done(committed)
		q.warn(attrs.Warnings()...)
	}()
	if err := s.admission.Mutate(ctx, attrs); err != nil {
		return result{}, err
	}
	if err := s.admission.Validate(ctx, attrs); err != nil {
		return result{}, err
	}
	r, err := s.deleteAdmitted(ctx, q, opts)
	committed = err == nil
	return r, err
}

func (s *Server) deleteAdmitted(ctx context.Context, q *request, opts *metav1.DeleteOptions) (result, error) {
	for {
		r, err := s.tryDelete(ctx, q, opts)
		if !errors.Is(err, errChanged) {
			return r, err
		}
		if ctx.Err() != nil {
			return result{}, ctx.Err()
		}
	}
}

// errChanged says that the object was changed by another between the look and
// the delete.
var errChanged = errors.New("object changed")

func (s *Server) tryDelete(ctx context.Context, q *request, opts *metav1.DeleteOptions) (result, error) {
	cur, err := s.store.Get(ctx, q.gr(), q.key, store.Latest())
	if err != nil {
		return result{}, err
	}
	if err := checkDeletePreconditions(q, opts, cur.Object); err != nil {
		return result{}, err
	}
	next, remove := markDeleted(q.kind, cur.Object, opts, time.Now())
	pre := store.Preconditions{UID: cur.Object.GetUID(), Revision: cur.Revision}
	switch {
	case remove && q.dryRun:
		return result{object: lastState(q.kind, cur.Object), gone: true}, nil
	case remove:
		e, err := s.store.Delete(ctx, q.gr(), q.key, pre, func(*store.Entry) error { return nil })
		if apierrors.IsConflict(err) {
			return result{}, errChanged
		}
		if err != nil {
			return result{}, err
		}
		return result{object: lastState(q.kind, e.Object), entry: e, gone: true}, nil
	case next == nil:
		return stored(cur), nil
	case q.dryRun:
		return result{object: next}, nil
	}
	if !q.kind.Untraced {
		setTrace(next, telemetry.Traceparent(ctx))
	}
	e, err := s.store.Update(ctx, q.gr(), q.key, pre, func(*store.Entry) (client.Object, error) { return clone(next), nil })
	if apierrors.IsConflict(err) {
		return result{}, errChanged
	}
	if err != nil {
		return result{}, err
	}
	return stored(e), nil
}

// lastState is how the answer shows an object that is gone: those that could
// have gone gracefully say that they had no time left.
func lastState(k *kind.Kind, o client.Object) client.Object {
	if k.GracePeriod == nil {
		return o
	}
	o = clone(o)
	now, none := metav1.NewTime(time.Now().Truncate(time.Second)), int64(0)
	if o.GetDeletionTimestamp() == nil {
		o.SetDeletionTimestamp(&now)
	}
	o.SetDeletionGracePeriodSeconds(&none)
	o.SetFinalizers(nil)
	return o
}

func checkDeletePreconditions(q *request, opts *metav1.DeleteOptions, cur client.Object) error {
	p := opts.Preconditions
	if p == nil {
		return nil
	}
	// Upstream names the kind here, not the resource.
	stale := func(format string, args ...any) error {
		return conflict(schema.GroupResource{Group: q.kind.Hub.Group, Resource: q.kind.Hub.Kind}, q.key.Name, format, args...)
	}
	if p.UID != nil && *p.UID != cur.GetUID() {
		return stale("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, cur.GetUID())
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != cur.GetResourceVersion() {
		return stale("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, cur.GetResourceVersion())
	}
	return nil
}

// markDeleted decides what deleting cur means: remove it now, or store next in
// its place, or, with neither, leave it as it is.
func markDeleted(k *kind.Kind, cur client.Object, opts *metav1.DeleteOptions, now time.Time) (next client.Object, remove bool) {
	grace, graceful := int64(0), false
	if k.GracePeriod != nil {
		grace, graceful = k.GracePeriod(cur, opts.GracePeriodSeconds)
	}
	if !graceful {
		grace = 0
	}
	finalizers, changed := deletionFinalizers(k, cur, opts)
	deleting := cur.GetDeletionTimestamp()
	if deleting != nil {
		if had := cur.GetDeletionGracePeriodSeconds(); had != nil {
			// A later delete may shorten the time that is left, never
			// lengthen it; one that does not ask keeps it.
			if graceful && opts.GracePeriodSeconds == nil {
				grace = *had
			}
			grace = min(grace, *had)
		}
	}
	held := len(finalizers) > 0 || (k.Held != nil && k.Held(cur))
	if grace == 0 && !held {
		return nil, true
	}
	if deleting != nil && !changed {
		if had := cur.GetDeletionGracePeriodSeconds(); had != nil && *had == grace {
			return nil, false
		}
	}
	next = clone(cur)
	next.SetFinalizers(finalizers)
	at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
	if deleting != nil {
		if had := cur.GetDeletionGracePeriodSeconds(); had != nil {
			at = metav1.NewTime(deleting.Add(time.Duration(grace-*had) * time.Second))
		}
	} else if next.GetGeneration() > 0 {
		next.SetGeneration(next.GetGeneration() + 1)
	}
	next.SetDeletionTimestamp(&at)
	next.SetDeletionGracePeriodSeconds(&grace)
	if deleting == nil && k.OnDelete != nil {
		k.OnDelete(next)
	}
	return next, false
}

// deletionFinalizers returns the finalizers cur must have for its dependents
// to be treated as asked.
func deletionFinalizers(k *kind.Kind, cur client.Object, opts *metav1.DeleteOptions) (fin []string, changed bool) {
	has := func(f string) bool { return slices.Contains(cur.GetFinalizers(), f) }
	orphan, foreground := has(metav1.FinalizerOrphanDependents), has(metav1.FinalizerDeleteDependents)
	switch {
	case opts.PropagationPolicy != nil:
		orphan = *opts.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *opts.PropagationPolicy == metav1.DeletePropagationForeground
	case opts.OrphanDependents != nil:
		orphan, foreground = *opts.OrphanDependents, false
	case !orphan && !foreground:
		orphan = k.OrphanByDefault
	}
	for _, f := range cur.GetFinalizers() {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			fin = append(fin, f)
		}
	}
	if orphan {
		fin = append(fin, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		fin = append(fin, metav1.FinalizerDeleteDependents)
	}
	return fin, orphan != has(metav1.FinalizerOrphanDependents) || foreground != has(metav1.FinalizerDeleteDependents)
}

// deleteCollection deletes the objects of the page that the list options
// select and returns them.
func (s *Server) deleteCollection(ctx context.Context, q *request, list *listOptions, opts *metav1.DeleteOptions) ([]client.Object, int64, error) {
	if err := validateDeleteOptions(opts); err != nil {
		return nil, 0, err
	}
	p, err := s.list(ctx, q, list)
	if err != nil {
		return nil, 0, err
	}
	var gone []client.Object
	for _, e := range p.entries {
		one := *q
		one.key = e.Key
		// Each object has its own preconditions and warnings.
		one.warnings = nil
		r, err := s.delete(ctx, &one, opts)
		q.warn(one.warnings...)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		gone = append(gone, r.object)
	}
	return gone, p.revision, nil
}
