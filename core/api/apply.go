package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

// apply merges the configuration in body as the fields the manager wants.
func (s *Server) apply(ctx context.Context, q *request, body []byte) (result, error) {
	config, err := decodeApply(q, q.as, body)
	if err != nil {
		return result{}, err
	}
	change := func(_ context.Context, cur client.Object) (client.Object, bool, error) {
		next, err := s.applied(q, q.as, cur, config, body)
		if err != nil {
			return nil, false, err
		}
		next.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
		return next, true, checkApplied(q, config, cur)
	}
	for {
		r, err := s.update(ctx, q, change)
		if !apierrors.IsNotFound(err) || q.sub != nil {
			return r, err
		}
		if uid := config.GetUID(); uid != "" {
			return result{}, conflict(q.gr(), q.key.Name, "uid mismatch: the provided object specified uid %s, and no existing object was found", uid)
		}
		r, err = s.applyNew(ctx, q, config, body)
		if !apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			return r, err
		}
	}
}

// applied merges config into live, in version v.
func (s *Server) applied(q *request, v version, live client.Object, config *unstructured.Unstructured, body []byte) (client.Object, error) {
	m, err := s.owners.manager(v, q.subName())
	if err != nil {
		return nil, err
	}
	out, err := m.Apply(live, config.DeepCopy(), q.manager, q.force)
	if err != nil {
		return nil, applyError(err)
	}
	if err := strictApply(q, body); err != nil {
		return nil, err
	}
	o, ok := out.(client.Object)
	if !ok {
		return nil, fmt.Errorf("cannot use %T as an object", out)
	}
	return clone(o), nil
}

// strictApply answers keys that the configuration has twice. Unknown ones do
// not fit the schema anyway.
func strictApply(q *request, body []byte) error {
	if q.fieldValidation != validateStrict && q.fieldValidation != validateWarn {
		return nil
	}
	err := yaml.UnmarshalStrict(body, &map[string]any{})
	switch {
	case err == nil:
	case q.fieldValidation == validateStrict:
		return badRequest("error strict decoding YAML: %v", err)
	default:
		text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
		for line := range strings.Lines(strings.TrimPrefix(text, "yaml: unmarshal errors:\n")) {
			q.warn(strings.TrimSpace(line))
		}
	}
	return nil
}

// checkApplied compares what the configuration says of the object's identity
// with the object.
func checkApplied(q *request, config *unstructured.Unstructured, cur client.Object) error {
	if n := config.GetName(); n != "" && n != q.key.Name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", n, q.key.Name)
	}
	if ns := config.GetNamespace(); ns != "" && ns != q.key.Namespace && !q.kind.ClusterScoped {
		return badRequest("%s", otherNamespace)
	}
	if uid := config.GetUID(); uid != "" && uid != cur.GetUID() {
		return apierrors.NewInvalid(q.kind.Hub.GroupKind(), q.key.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable"),
		})
	}
	if rv := config.GetResourceVersion(); rv != "" && rv != cur.GetResourceVersion() {
		return conflict(q.asked(), q.key.Name, "%s", optimisticLock)
	}
	return nil
}

// applyNew creates the object; whoever applies must be allowed to create.
func (s *Server) applyNew(ctx context.Context, q *request, config *unstructured.Unstructured, body []byte) (result, error) {
	create := *q
	create.verb = "create"
	if err := s.authorize(ctx, create.attributes()); err != nil {
		return result{}, err
	}
	live := q.kind.New()
	live.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
	obj, err := s.applied(&create, q.as, live, config, body)
	if err != nil {
		return result{}, err
	}
	obj.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
	if err := checkName(q, obj); err != nil {
		return result{}, err
	}
	if config.GetResourceVersion() != "" {
		return result{}, apierrors.NewNotFound(q.gr(), q.key.Name)
	}
	obj.SetResourceVersion("")
	r, err := s.create(ctx, &create, obj, true)
	q.warn(create.warnings...)
	return r, err
}

// decodeApply reads a configuration of version v.
func decodeApply(q *request, v version, body []byte) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(body, &u.Object); err != nil {
		return nil, badRequest("error decoding YAML: %v", err)
	}
	if gvk := u.GroupVersionKind(); gvk != v.gvk {
		return nil, badRequest("invalid object type: %s", gvk)
	}
	if meta, ok := u.Object["metadata"]; ok && meta != nil {
		if _, ok := meta.(map[string]any); !ok {
			return nil, badRequest("error decoding YAML: metadata is not an object")
		}
	}
	if u.GetManagedFields() != nil {
		return nil, badRequest("metadata.managedFields must be nil")
	}
	if !q.kind.ClusterScoped && u.GetNamespace() != "" && u.GetNamespace() != q.key.Namespace {
		return nil, badRequest("%s", otherNamespace)
	}
	// Nobody owns the annotation in which the server keeps the trace.
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", telemetry.TraceAnnotation)
	if _, ok, err := unstructured.NestedMap(u.Object, "metadata", "annotations"); ok && err == nil && len(u.GetAnnotations()) == 0 {
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations")
	}
	return u, nil
}

// applyError classifies what the merge refuses: conflicts carry their status;
// anything else is a configuration that does not fit its schema. Upstream
// answers those with 500, which tells clients to try again.
func applyError(err error) error {
	var st apierrors.APIStatus
	if errors.As(err, &st) {
		return err
	}
	return badRequest("%v", err)
}

// applyView applies to what a subresource shows of the object (scale). Who
// owns a field there is who owns the object's field behind it.
func (s *Server) applyView(ctx context.Context, q *request, body []byte) (client.Object, error) {
	v, err := s.bodyVersion(q)
	if err != nil {
		return nil, err
	}
	config, err := decodeApply(q, v, body)
	if err != nil {
		return nil, err
	}
	r, err := s.update(ctx, q, func(_ context.Context, cur client.Object) (client.Object, bool, error) {
		owners := managedfields.NewScaleHandler(cur.GetManagedFields(), q.kind.Hub.GroupVersion(), replicasPaths(q.kind))
		view, err := s.project(q, cur)
		if err != nil {
			return nil, false, err
		}
		seen, err := owners.ToSubresource()
		if err != nil {
			return nil, false, badRequest("cannot read the field owners of %s: %v", q.key, err)
		}
		view.SetManagedFields(seen)
		after, err := s.applied(q, v, view, config, body)
		if err != nil {
			return nil, false, err
		}
		if err := checkApplied(q, config, cur); err != nil {
			return nil, false, err
		}
		if err := checkView(q, after); err != nil {
			return nil, false, err
		}
		next := clone(cur)
		next.SetResourceVersion("")
		if err := q.sub.Apply(next, after); err != nil {
			return nil, false, err
		}
		owned, err := owners.ToParent(after.GetManagedFields())
		if err != nil {
			return nil, false, fmt.Errorf("cannot record the field owners of %s: %w", q.key, err)
		}
		next.SetManagedFields(owned)
		return next, true, nil
	})
	if err != nil {
		return nil, err
	}
	return s.project(q, r.object)
}

// replicasPaths says where a kind's versions keep what a Scale calls replicas.
func replicasPaths(k *kind.Kind) managedfields.ResourcePathMappings {
	at := fieldpath.MakePathOrDie("spec", "replicas")
	paths := managedfields.ResourcePathMappings{k.Hub.GroupVersion().String(): at}
	for _, v := range k.Versions {
		paths[v.GroupVersion().String()] = at
	}
	return paths
}

// resetsOwners reports the one value with which a client takes all field
// ownership away: a list of one empty entry.
func resetsOwners(entries []metav1.ManagedFieldsEntry) bool {
	return len(entries) == 1 && entries[0] == (metav1.ManagedFieldsEntry{})
}
