package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// maxPatchOperations bounds what one JSON patch may do, as upstream.
const maxPatchOperations = 10000

// patch changes the object of q.key as body says.
func (s *Server) patch(ctx context.Context, q *request, pt types.PatchType, body []byte) (result, error) {
	if pt == types.ApplyYAMLPatchType {
		return s.apply(ctx, q, body)
	}
	f, err := s.patcher(q.as, pt, body)
	if err != nil {
		return result{}, err
	}
	return s.update(ctx, q, func(_ context.Context, cur client.Object) (client.Object, bool, error) {
		next, err := s.patched(q, cur, f)
		return next, false, err
	})
}

// patched applies f to cur as the client sees it.
func (s *Server) patched(q *request, cur client.Object, f patchFunc) (client.Object, error) {
	seen, err := q.as.fromHub(cur)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(seen)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s for a patch: %w", q.key, err)
	}
	after, err := f(before)
	if err != nil {
		return nil, err
	}
	o, err := s.decodePatched(q, after)
	if err != nil {
		return nil, err
	}
	next, err := q.as.toHub(o)
	if err != nil {
		return nil, err
	}
	if next.GetName() != "" && next.GetName() != q.key.Name {
		return nil, invalidMetadata(q, "name", next.GetName())
	}
	return next, nil
}

// decodePatched reads a patched object. What it holds that its kind does not
// know is answered as upstream does for patches: 422, or a warning.
func (s *Server) decodePatched(q *request, data []byte) (runtime.Object, error) {
	o, warnings, err := s.codecs.decode(data, mediaJSON, q.as, q.fieldValidation)
	if err != nil {
		var st apierrors.APIStatus
		if errors.As(err, &st) && st.Status().Code == http.StatusBadRequest {
			return nil, unprocessable(st.Status().Message)
		}
		return nil, err
	}
	q.warn(warnings...)
	return o, nil
}

// unprocessable is a well-formed patch that cannot be applied.
func unprocessable(message string) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", message, 0, false)
}

func invalidMetadata(q *request, field string, value string) error {
	st := apierrors.NewInvalid(q.kind.Hub.GroupKind(), q.key.Name, nil)
	st.ErrStatus.Message = fmt.Sprintf("%s %q is invalid: metadata.%s: Invalid value: %q: field is immutable", q.kind.Hub.GroupKind(), q.key.Name, field, value)
	st.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeFieldValueInvalid, Field: "metadata." + field,
		Message: fmt.Sprintf("Invalid value: %q: field is immutable", value),
	}}
	return st
}

// patchFunc turns an object's JSON into the patched one's.
type patchFunc func(before []byte) ([]byte, error)

func (s *Server) patcher(v version, pt types.PatchType, body []byte) (patchFunc, error) {
	switch pt {
	case types.JSONPatchType:
		return jsonPatcher(body)
	case types.MergePatchType:
		return mergePatcher(body)
	case types.StrategicMergePatchType:
		return strategicPatcher(v, body)
	}
	return nil, unsupportedMediaType(string(types.JSONPatchType))
}

func jsonPatcher(body []byte) (patchFunc, error) {
	patch, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	if len(patch) > maxPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(patch)))
	}
	return func(before []byte) (after []byte, err error) {
		// The library panics on some malformed operations.
		defer func() {
			if p := recover(); p != nil {
				err = unprocessable(fmt.Sprintf("cannot apply JSON patch: %v", p))
			}
		}()
		after, err = patch.Apply(before)
		if err != nil {
			return nil, unprocessable(err.Error())
		}
		return after, nil
	}, nil
}

func mergePatcher(body []byte) (patchFunc, error) {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	return func(before []byte) ([]byte, error) {
		after, err := jsonpatch.MergePatch(before, body)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		return after, nil
	}, nil
}

func strategicPatcher(v version, body []byte) (patchFunc, error) {
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	if _, custom := v.empty().(runtime.Unstructured); custom {
		return nil, unsupportedMediaType(string(types.JSONPatchType) + ", " + string(types.MergePatchType))
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(v.empty())
	if err != nil {
		return nil, fmt.Errorf("cannot patch %s: %w", v.gvk, err)
	}
	return func(before []byte) (after []byte, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = unprocessable(fmt.Sprintf("cannot apply strategic merge patch: %v", p))
			}
		}()
		var object map[string]any
		if err := json.Unmarshal(before, &object); err != nil {
			return nil, fmt.Errorf("cannot decode object to patch: %w", err)
		}
		// Applying changes its arguments, and may be tried again.
		var once map[string]any
		if err := json.Unmarshal(body, &once); err != nil {
			return nil, badRequest("error decoding patch: %v", err)
		}
		merged, err := strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(object, once, meta)
		if err != nil {
			return nil, strategicError(err)
		}
		return json.Marshal(merged)
	}, nil
}

func strategicError(err error) error {
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return badRequest("%v", err)
	case errors.Is(err, mergepatch.ErrNoListOfLists):
		return unprocessable(err.Error())
	}
	return unprocessable(err.Error())
}

// apply merges the configuration in body as the fields the manager wants.
func (s *Server) apply(ctx context.Context, q *request, body []byte) (result, error) {
	config, err := s.decodeApply(q, body)
	if err != nil {
		return result{}, err
	}
	m, err := s.owners.manager(q.as, q.subName())
	if err != nil {
		return result{}, err
	}
	merge := func(live client.Object) (client.Object, error) {
		out, err := m.Apply(live, config.DeepCopy(), q.manager, q.force)
		if err != nil {
			return nil, applyError(err)
		}
		o, ok := out.(client.Object)
		if !ok {
			return nil, fmt.Errorf("cannot use %T as an object", out)
		}
		o = clone(o)
		o.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
		return o, nil
	}
	change := func(_ context.Context, cur client.Object) (client.Object, bool, error) {
		if uid := config.GetUID(); uid != "" && uid != cur.GetUID() {
			return nil, false, conflict(q.gr(), q.key.Name, "Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, cur.GetUID())
		}
		if rv := config.GetResourceVersion(); rv != "" && rv != cur.GetResourceVersion() {
			return nil, false, conflict(q.gr(), q.key.Name, "%s", optimisticLock)
		}
		next, err := merge(cur)
		return next, true, err
	}
	for {
		r, err := s.update(ctx, q, change)
		if !apierrors.IsNotFound(err) || q.sub != nil {
			return r, err
		}
		if uid := config.GetUID(); uid != "" {
			return result{}, conflict(q.gr(), q.key.Name, "uid mismatch: the provided object specified uid %s, and no existing object was found", uid)
		}
		r, err = s.applyNew(ctx, q, config, merge)
		if !apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			return r, err
		}
	}
}

// applyNew creates the object; whoever applies must be allowed to create.
func (s *Server) applyNew(ctx context.Context, q *request, config *unstructured.Unstructured, merge func(client.Object) (client.Object, error)) (result, error) {
	create := *q
	create.verb = "create"
	a := create.attributes()
	if err := s.authorize(ctx, a); err != nil {
		return result{}, err
	}
	live := q.kind.New()
	live.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
	obj, err := merge(live)
	if err != nil {
		return result{}, err
	}
	obj.SetName(q.key.Name)
	obj.SetResourceVersion("")
	if config.GetResourceVersion() != "" {
		return result{}, apierrors.NewNotFound(q.gr(), q.key.Name)
	}
	r, err := s.create(ctx, &create, obj, true)
	q.warnings = create.warnings
	return r, err
}

func (s *Server) decodeApply(q *request, body []byte) (*unstructured.Unstructured, error) {
	data, err := toJSON(body, false)
	if err != nil {
		return nil, badRequest("error decoding YAML: %v", err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil || u.Object == nil {
		return nil, badRequest("error decoding YAML: the configuration is not an object")
	}
	if gvk := u.GroupVersionKind(); gvk != q.as.gvk {
		return nil, badRequest("incorrect object kind or version in apply configuration: %s, expected %s", gvk, q.as.gvk)
	}
	if meta, ok := u.Object["metadata"]; ok {
		if _, ok := meta.(map[string]any); !ok {
			return nil, badRequest("error decoding YAML: metadata is not an object")
		}
	}
	if slices.Contains([]string{validateStrict, validateWarn}, q.fieldValidation) {
		if _, warnings, err := s.codecs.decode(body, mediaYAML, q.as, q.fieldValidation); err != nil {
			return nil, err
		} else {
			q.warn(warnings...)
		}
	}
	if u.GetManagedFields() != nil {
		return nil, badRequest("metadata.managedFields must be nil")
	}
	if u.GetName() != "" && u.GetName() != q.key.Name {
		return nil, badRequest("the name of the object (%s) does not match the name on the URL (%s)", u.GetName(), q.key.Name)
	}
	if ns := u.GetNamespace(); ns != "" && ns != q.key.Namespace && !q.kind.ClusterScoped {
		return nil, badRequest("the namespace of the object (%s) does not match the namespace on the request (%s)", ns, q.key.Namespace)
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", telemetry.TraceAnnotation)
	if len(u.GetAnnotations()) == 0 {
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations")
	}
	u.SetName(q.key.Name)
	if !q.kind.ClusterScoped {
		u.SetNamespace(q.key.Namespace)
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
