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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"binnacle.io/core/client"
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

// patched applies p to cur as the client sees it.
func (s *Server) patched(q *request, cur client.Object, p *patchPlan) (client.Object, error) {
	seen, err := q.as.fromHub(cur)
	if err != nil {
		return nil, err
	}
	o, err := s.patchedPart(q, seen, p)
	if err != nil {
		// Refusals quote the whole object.
		before, err := json.Marshal(seen)
		if err != nil {
			return nil, fmt.Errorf("cannot encode %s for a patch: %w", q.key, err)
		}
		if o, err = s.applyPatch(q, before, p); err != nil {
			return nil, err
		}
	}
	next, err := q.as.toHub(o)
	if err != nil {
		return nil, err
	}
	if next.GetName() != "" && next.GetName() != q.key.Name {
		return nil, badRequest("the name of the object (%s) does not match the name on the URL (%s)", next.GetName(), q.key.Name)
	}
	if ns := next.GetNamespace(); ns != "" && ns != q.key.Namespace && !q.kind.ClusterScoped {
		return nil, badRequest("%s", otherNamespace)
	}
	if uid := next.GetUID(); uid != "" && cur.GetUID() != "" && uid != cur.GetUID() {
		return nil, apierrors.NewInvalid(q.kind.Hub.GroupKind(), q.key.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable"),
		})
	}
	return next, nil
}

// errWholly says that a patch has to be applied to the whole object.
var errWholly = errors.New("the patch may change everything")

// patchedPart applies p to what it can change of an object.
func (s *Server) patchedPart(q *request, seen runtime.Object, p *patchPlan) (runtime.Object, error) {
	part, rest, ok := p.reach.split(seen)
	if !ok {
		return nil, errWholly
	}
	before, err := json.Marshal(part)
	if err != nil {
		return nil, err
	}
	o, err := s.applyPatch(q, before, p)
	if err != nil {
		return nil, err
	}
	p.reach.join(o, rest)
	return o, nil
}

// applyPatch makes the patched object. What it or the patch holds that their
// kinds do not know is answered as upstream does for patches: 422, or a
// warning.
func (s *Server) applyPatch(q *request, before []byte, p *patchPlan) (runtime.Object, error) {
	strict := q.fieldValidation != validateIgnore
	o := q.as.empty()
	var after []byte
	shown := p.shown
	var err error
	if p.merge != nil {
		var object map[string]any
		if object, err = p.merge(before); err != nil {
			return nil, err
		}
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, o, strict)
	} else {
		if after, err = p.apply(before); err != nil {
			return nil, err
		}
		shown = string(after)
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		if _, custom := o.(runtime.Unstructured); custom {
			o.GetObjectKind().SetGroupVersionKind(q.as.gvk)
		}
		var gvk *schema.GroupVersionKind
		var made runtime.Object
		made, gvk, err = s.codecs.decoder(mediaJSON, q.fieldValidation).Decode(after, &q.as.gvk, o)
		if (err == nil || runtime.IsStrictDecodingError(err)) && made != o {
			err = fmt.Errorf("converting (%s.%s) to (%s): unknown conversion", gvk.Version, gvk.Kind, internalName(q.as.gvk))
		}
	}
	found := p.strict
	if bad, ok := runtime.AsStrictDecodingError(err); ok {
		found, err = slices.Concat(found, bad.Errors()), nil
	}
	refuse := func(why error) error {
		return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), shown, why.Error())})
	}
	switch gvk := o.GetObjectKind().GroupVersionKind(); {
	case err != nil:
		return nil, refuse(err)
	case gvk != q.as.gvk:
		return nil, refuse(fmt.Errorf("unable to decode %s into %s: another kind", gvk, q.as.gvk))
	case len(found) > 0 && q.fieldValidation == validateStrict:
		return nil, refuse(runtime.NewStrictDecodingError(found))
	case q.fieldValidation == validateWarn:
		for _, e := range found {
			q.warn(e.Error())
		}
	}
	return o, nil
}

// unprocessable is a well-formed patch that cannot be applied.
func unprocessable(message string) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", message, 0, false)
}

// patchPlan is a decoded patch. One of apply and merge is set.
type patchPlan struct {
	// apply turns an object's JSON into the patched one's, merge into the
	// patched object itself.
	apply func(before []byte) ([]byte, error)
	merge func(before []byte) (map[string]any, error)
	// strict is what is wrong with the patch itself for whoever is strict.
	strict []error
	// shown is how refusals quote a patch with merge.
	shown string
	reach *reach
}

func (s *Server) patcher(v version, pt types.PatchType, body []byte) (*patchPlan, error) {
	switch pt {
	case types.JSONPatchType:
		return jsonPatcher(body)
	case types.MergePatchType:
		return mergePatcher(body)
	case types.StrategicMergePatchType:
		return strategicPatcher(v, body)
	}
	return nil, unsupportedPatch()
}

// operation is one of a JSON patch, to find what operations do not have.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func jsonPatcher(body []byte) (*patchPlan, error) {
	var operations []operation
	strict, err := kjson.UnmarshalStrict(body, &operations)
	if err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	if len(operations) > maxPatchOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(operations)))
	}
	for i, e := range strict {
		strict[i] = fmt.Errorf("json patch %w", e)
	}
	patch, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	return &patchPlan{strict: strict, apply: func(before []byte) (after []byte, err error) {
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
	}}, nil
}

func mergePatcher(body []byte) (*patchPlan, error) {
	var object map[string]any
	strict, err := kjson.UnmarshalStrict(body, &object)
	if err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	return &patchPlan{strict: strict, reach: reachOf(object), apply: func(before []byte) ([]byte, error) {
		after, err := jsonpatch.MergePatch(before, body)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		return after, nil
	}}, nil
}

func strategicPatcher(v version, body []byte) (*patchPlan, error) {
	var patch map[string]any
	strict, err := kjson.UnmarshalStrict(body, &patch)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	if _, custom := v.empty().(runtime.Unstructured); custom {
		return nil, unsupportedPatch()
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(v.empty())
	if err != nil {
		return nil, fmt.Errorf("cannot patch %s: %w", v.gvk, err)
	}
	return &patchPlan{strict: strict, reach: reachOf(patch), shown: fmt.Sprintf("%+v", patch), merge: func(before []byte) (merged map[string]any, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = unprocessable(fmt.Sprintf("cannot apply strategic merge patch: %v", p))
			}
		}()
		var object map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(before, &object); err != nil {
			return nil, fmt.Errorf("cannot decode object to patch: %w", err)
		}
		// Applying changes its arguments, and may be tried again.
		merged, err = strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(object, runtime.DeepCopyJSON(patch), meta)
		if err != nil {
			return nil, strategicError(err)
		}
		return merged, nil
	}}, nil
}

func strategicError(err error) error {
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return badRequest("%v", err)
	}
	// Upstream answers most of these with 500.
	return unprocessable(err.Error())
}
