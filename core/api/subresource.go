package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
)

// carriesObject reports that the subresource's body is the object itself.
func carriesObject(k *kind.Kind, sub *kind.Subresource) bool {
	return sub.Body.Empty() || sub.Body.GroupKind() == k.Hub.GroupKind()
}

// isView reports that the body is made from the object and back (scale).
func isView(sub *kind.Subresource) bool { return sub.Project != nil }

// connects reports that the subresource is answered by the node.
func connects(q *request) bool {
	switch q.sub.Name {
	case "log":
		return q.kind.Resource == "pods"
	case "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}

// bodyVersion is the version of what travels on a subresource.
func (s *Server) bodyVersion(q *request) (version, error) {
	if carriesObject(q.kind, q.sub) {
		return q.as, nil
	}
	k, v, ok := s.kinds.ByKind(q.sub.Body)
	if !ok {
		return version{}, fmt.Errorf("cannot serve %s/%s: kind %s is not in the catalogue", q.kind.Resource, q.sub.Name, q.sub.Body)
	}
	return versionOf(k, v), nil
}

// serveSubresource answers a request below an object.
func (s *Server) serveSubresource(c *call, q *request) error {
	if connects(q) {
		return s.nodes.serve(c, q)
	}
	ctx := c.r.Context()
	switch q.verb {
	case "get":
		fresh, err := getFreshness(c.r.URL.Query().Get("resourceVersion"))
		if err != nil {
			return err
		}
		e, err := s.store.Get(ctx, q.gr(), q.key, fresh)
		if err != nil {
			return err
		}
		if isView(q.sub) {
			view, err := q.sub.Project(e.Object)
			if err != nil {
				return err
			}
			view.GetObjectKind().SetGroupVersionKind(q.sub.Body)
			return s.respondObject(c, q, http.StatusOK, view)
		}
		if !carriesObject(q.kind, q.sub) {
			return methodNotAllowed()
		}
		return s.respond(c, q, http.StatusOK, stored(e))
	case "create", "update":
		return s.serveSubWrite(c, q)
	case "patch":
		return s.serveSubPatch(c, q)
	}
	return methodNotAllowed()
}

func (s *Server) serveSubWrite(c *call, q *request) error {
	if err := s.writeOptions(c, q, ""); err != nil {
		return err
	}
	v, err := s.bodyVersion(q)
	if err != nil {
		return err
	}
	media, err := bodyMedia(c.r)
	if err != nil {
		return err
	}
	body, err := readBody(c, s.cfg.MaxRequestBytes)
	if err != nil {
		return err
	}
	// Clients send reviews and evictions in any version of the kind.
	if !carriesObject(q.kind, q.sub) {
		v = s.sentVersion(v, body, media)
	}
	o, warnings, err := s.codecs.decode(body, media, v, q.fieldValidation)
	if err != nil {
		return err
	}
	q.warn(warnings...)
	obj, err := v.toHub(o)
	if err != nil {
		return err
	}
	var out client.Object
	code := http.StatusOK
	if q.verb == "create" {
		code = http.StatusCreated
		out, err = s.createSub(c.r.Context(), q, obj)
	} else {
		if carriesObject(q.kind, q.sub) {
			if err := checkName(q, obj); err != nil {
				return err
			}
		}
		out, err = s.updateSub(c.r.Context(), q, obj)
	}
	if err != nil {
		return err
	}
	if carriesObject(q.kind, q.sub) {
		return s.respond(c, q, code, result{object: out})
	}
	return s.respondIn(c, q, v, code, out)
}

// respondIn writes an object, or a Status, in version v.
func (s *Server) respondIn(c *call, q *request, v version, code int, o client.Object) error {
	if st, ok := o.(*statusObject); ok {
		return s.respondObject(c, q, code, st.Status)
	}
	out, err := v.fromHub(o)
	if err != nil {
		return err
	}
	return s.respondObject(c, q, code, out)
}

// sentVersion is the version of v's kind that the body says it is of.
func (s *Server) sentVersion(v version, body []byte, media string) version {
	var tm struct{ APIVersion, Kind string }
	switch media {
	case mediaProtobuf:
		return v
	case mediaYAML:
		j, err := toJSON(body, false)
		if err != nil {
			return v
		}
		body = j
	}
	if json.Unmarshal(body, &tm) != nil || tm.Kind != v.gvk.Kind {
		return v
	}
	if k, o, ok := s.kinds.ByKind(schema.FromAPIVersionAndKind(tm.APIVersion, tm.Kind)); ok && k == v.kind {
		return versionOf(k, o)
	}
	return v
}

// createSub posts obj to a subresource.
func (s *Server) createSub(ctx context.Context, q *request, obj client.Object) (client.Object, error) {
	switch q.kind.Resource + "/" + q.sub.Name {
	case "pods/binding":
		return s.bind(ctx, q, obj)
	case "pods/eviction":
		return s.evict(ctx, q, obj)
	case "serviceaccounts/token":
		return s.issueToken(ctx, q, obj)
	}
	return nil, methodNotAllowed()
}

// updateSub replaces what a subresource shows.
func (s *Server) updateSub(ctx context.Context, q *request, obj client.Object) (client.Object, error) {
	switch {
	case isView(q.sub) && obj.GetObjectKind().GroupVersionKind().GroupKind() != q.kind.Hub.GroupKind():
		r, err := s.update(ctx, q, func(_ context.Context, cur client.Object) (client.Object, bool, error) {
			next := clone(cur)
			next.SetResourceVersion("")
			if err := checkView(q, obj); err != nil {
				return nil, false, err
			}
			return next, false, q.sub.Apply(next, obj)
		})
		if err != nil {
			return nil, err
		}
		return s.project(q, r.object)
	case carriesObject(q.kind, q.sub):
		obj.GetObjectKind().SetGroupVersionKind(q.kind.Hub)
		r, err := s.update(ctx, q, replace(q, obj))
		return r.object, err
	}
	return nil, methodNotAllowed()
}

func (s *Server) project(q *request, o client.Object) (client.Object, error) {
	view, err := q.sub.Project(o)
	if err != nil {
		return nil, err
	}
	view.GetObjectKind().SetGroupVersionKind(q.sub.Body)
	return view, nil
}

// checkView validates a view as the API server's own kinds are.
func checkView(q *request, view client.Object) error {
	if view.GetName() != "" && view.GetName() != q.key.Name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", view.GetName(), q.key.Name)
	}
	if ns := view.GetNamespace(); ns != "" && ns != q.key.Namespace {
		return badRequest("%s", otherNamespace)
	}
	return validateScale(view)
}

func (s *Server) serveSubPatch(c *call, q *request) error {
	pt, err := patchType(c.r)
	if err != nil {
		return err
	}
	if pt == types.ApplyYAMLPatchType {
		c.metricVerb = "APPLY"
	}
	if err := s.writeOptions(c, q, pt); err != nil {
		return err
	}
	body, err := readBody(c, s.cfg.MaxRequestBytes)
	if err != nil {
		return err
	}
	out, r, err := s.patchSub(c.r.Context(), q, pt, body)
	if err != nil {
		return err
	}
	if isView(q.sub) {
		return s.respondObject(c, q, http.StatusOK, out)
	}
	return s.respond(c, q, http.StatusOK, r)
}

// patchSub patches what a subresource shows.
func (s *Server) patchSub(ctx context.Context, q *request, pt types.PatchType, body []byte) (client.Object, result, error) {
	if !isView(q.sub) {
		if !carriesObject(q.kind, q.sub) {
			return nil, result{}, methodNotAllowed()
		}
		r, err := s.patch(ctx, q, pt, body)
		return r.object, r, err
	}
	if pt == types.ApplyYAMLPatchType {
		out, err := s.applyView(ctx, q, body)
		return out, result{}, err
	}
	v, err := s.bodyVersion(q)
	if err != nil {
		return nil, result{}, err
	}
	f, err := s.patcher(v, pt, body)
	if err != nil {
		return nil, result{}, err
	}
	view := *q
	view.as = v
	r, err := s.update(ctx, q, func(_ context.Context, cur client.Object) (client.Object, bool, error) {
		before, err := s.project(q, cur)
		if err != nil {
			return nil, false, err
		}
		after, err := s.patched(&view, before, f)
		if err != nil {
			return nil, false, err
		}
		if err := checkView(q, after); err != nil {
			return nil, false, err
		}
		next := clone(cur)
		next.SetResourceVersion("")
		return next, false, q.sub.Apply(next, after)
	})
	q.warn(view.warnings...)
	if err != nil {
		return nil, result{}, err
	}
	out, err := s.project(q, r.object)
	return out, r, err
}

// latest reads the object a subresource belongs to.
func (s *Server) latest(ctx context.Context, q *request) (client.Object, error) {
	e, err := s.store.Get(ctx, q.gr(), q.key, store.Latest())
	if err != nil {
		return nil, err
	}
	return e.Object, nil
}
