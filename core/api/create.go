package api

import (
	"context"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/admission"
	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

const (
	// generateNameTries is how often a generated name that is taken is
	// drawn anew, as upstream.
	generateNameTries = 8
	// generatedSuffix is the length of the random part, and maxGenerateBase
	// what is kept of the prefix so that the whole fits a DNS label.
	generatedSuffix = 5
	maxGenerateBase = 63 - generatedSuffix
)

// create stores obj, which becomes the pipeline's. owned says that managedFields
// have been computed already (apply).
func (s *Server) create(ctx context.Context, q *request, obj client.Object, owned bool) (result, error) {
	if err := matchNamespace(q, obj); err != nil {
		return result{}, err
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != "0" {
		return result{}, badRequest("resourceVersion should not be set on objects to be created")
	}
	obj.SetResourceVersion("")
	q.warn(singleOwners(obj)...)
	if obj.GetName() != "" || obj.GetGenerateName() == "" {
		return s.createNamed(ctx, q, obj, owned)
	}
	base := obj.GetGenerateName()
	if len(base) > maxGenerateBase {
		base = base[:maxGenerateBase]
	}
	for try := 1; ; try++ {
		next := clone(obj)
		next.SetName(base + utilrand.String(generatedSuffix))
		r, err := s.createNamed(ctx, q, next, owned)
		if !apierrors.IsAlreadyExists(err) {
			return r, err
		}
		if try == generateNameTries {
			return result{}, apierrors.NewGenerateNameConflict(q.gr(), next.GetName(), 1)
		}
	}
}

// otherNamespace is upstream's wording for a body that is not of the path's
// namespace.
const otherNamespace = "the namespace of the provided object does not match the namespace sent on the request"

func matchNamespace(q *request, obj client.Object) error {
	if q.kind.ClusterScoped {
		obj.SetNamespace("")
		return nil
	}
	switch ns := obj.GetNamespace(); {
	case ns == q.key.Namespace:
	case ns == "":
		obj.SetNamespace(q.key.Namespace)
	default:
		return badRequest("%s", otherNamespace)
	}
	return nil
}

func (s *Server) createNamed(ctx context.Context, q *request, obj client.Object, owned bool) (result, error) {
	k := q.kind
	keepTrace(obj, nil)
	dropManaged(obj)
	obj.SetSelfLink("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetUID(uuid.NewUUID())
	obj.SetCreationTimestamp(metav1.Time{Time: time.Now().Truncate(time.Second)})
	setDefaults(k, obj)
	if !owned {
		live := k.New()
		live.GetObjectKind().SetGroupVersionKind(k.Hub)
		obj = s.own(q, live, obj, q.manager)
	}

	q.key = client.KeyOf(obj)
	attrs := s.admissionAttributes(q, admission.Create, obj, nil)
	r, err := s.admitCreate(ctx, q, attrs)
	attrs.Done(err == nil)
	q.warn(attrs.Warnings()...)
	return r, err
}

func (s *Server) admitCreate(ctx context.Context, q *request, attrs *admission.Attributes) (result, error) {
	k := q.kind
	if err := s.admission.Mutate(ctx, attrs); err != nil {
		return result{}, err
	}
	obj := attrs.Object
	setDefaults(k, obj)
	if k.PrepareCreate != nil {
		k.PrepareCreate(obj)
	}
	errs := validation.ValidateObjectMetaAccessor(obj, !k.ClusterScoped, nameCheck(k), field.NewPath("metadata"))
	errs = append(errs, pathSegment(obj.GetName(), errs)...)
	errs = append(errs, k.ValidateFinalizers(obj)...)
	if validate := q.as.validate(); validate != nil {
		errs = append(errs, validate(obj)...)
	}
	if len(errs) > 0 {
		return result{}, apierrors.NewInvalid(k.Hub.GroupKind(), obj.GetName(), errs)
	}
	if err := s.admission.Validate(ctx, attrs); err != nil {
		return result{}, err
	}
	if k.Warnings != nil {
		q.warn(k.Warnings(obj)...)
	}
	if q.dryRun {
		if _, err := s.store.Get(ctx, q.gr(), client.KeyOf(obj), store.Latest()); err == nil {
			return result{}, apierrors.NewAlreadyExists(q.gr(), obj.GetName())
		} else if !apierrors.IsNotFound(err) {
			return result{}, err
		}
		shown, err := s.store.Rehearse(q.gr(), obj)
		return result{object: shown, created: true}, err
	}
	if !q.kind.Untraced {
		setTrace(obj, telemetry.Traceparent(ctx))
	}
	e, err := s.store.Create(ctx, q.gr(), obj)
	if err != nil {
		return result{}, err
	}
	r := stored(e)
	r.created = true
	return r, nil
}

func setDefaults(k *kind.Kind, obj client.Object) {
	if k.Default != nil {
		k.Default(obj)
	}
}

func nameCheck(k *kind.Kind) validation.ValidateNameFunc {
	if k.ValidateName != nil {
		return k.ValidateName
	}
	return validation.NameIsDNSSubdomain
}

// pathSegment keeps names that cannot stand in a URL path out, whatever the
// kind allows. errs are those found already.
func pathSegment(name string, errs field.ErrorList) field.ErrorList {
	at := field.NewPath("metadata", "name")
	for _, e := range errs {
		if e.Field == at.String() {
			return nil
		}
	}
	if msgs := path.IsValidPathSegmentName(name); name != "" && len(msgs) > 0 {
		return field.ErrorList{field.Invalid(at, name, strings.Join(msgs, ", "))}
	}
	return nil
}

func (s *Server) admissionAttributes(q *request, op admission.Operation, obj, old client.Object) *admission.Attributes {
	return &admission.Attributes{
		Op: op, Resource: q.gr(), Kind: q.kind.Hub, Subresource: q.subName(), Key: q.key,
		Object: obj, Old: old, User: q.user, DryRun: q.dryRun,
	}
}
