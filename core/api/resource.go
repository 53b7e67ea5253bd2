package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

func schemaResource(rt *route) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: rt.group, Version: rt.version, Resource: rt.resource}
}

// allVerbs are those of a kind that names none.
func allVerbs() []string {
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

func verbsOf(k *kind.Kind) []string {
	if len(k.Verbs) == 0 {
		return allVerbs()
	}
	return k.Verbs
}

// hasItems reports that single objects have paths of their own.
func hasItems(verbs []string) bool {
	return slices.ContainsFunc(verbs, func(v string) bool { return v == "get" || v == "update" || v == "patch" || v == "delete" })
}

func findSub(k *kind.Kind, name string) *kind.Subresource {
	i := slices.IndexFunc(k.Subresources, func(s kind.Subresource) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &k.Subresources[i]
}

// resolve finds what a route names and checks that it answers the verb.
func (s *Server) resolve(c *call) (*request, error) {
	rt := &c.route
	k, v, ok := s.kinds.ByResource(schemaResource(rt))
	if !ok {
		return nil, s.notServed(rt)
	}
	q := &request{
		user: c.user, verb: rt.verb, kind: k, as: versionOf(k, v),
		key: client.Key{Namespace: rt.namespace, Name: rt.name}, start: c.start,
	}
	if k.ClusterScoped {
		if rt.namespace != "" && rt.resource != "namespaces" {
			return nil, pathNotFound()
		}
		q.key.Namespace = ""
	}
	verbs := verbsOf(k)
	if rt.sub != "" {
		if q.sub = findSub(k, rt.sub); q.sub == nil {
			return nil, pathNotFound()
		}
		verbs = q.sub.Verbs
	}
	if rt.sub == "" && rt.name != "" && rt.verb != "watch" && !hasItems(verbs) {
		return nil, pathNotFound()
	}
	// What is proxied may be asked its options, for which there is no verb.
	options := rt.sub == "proxy" && c.r.Method == http.MethodOptions
	if (!slices.Contains(verbs, rt.verb) || rt.verb == "") && !options {
		return nil, methodNotAllowed()
	}
	if rt.name == "" && (rt.verb == "update" || rt.verb == "patch") || rt.name != "" && rt.sub == "" && rt.verb == "create" {
		return nil, methodNotAllowed()
	}
	if !k.ClusterScoped && rt.namespace == "" {
		switch {
		case rt.name != "" && rt.verb != "watch":
			return nil, pathNotFound()
		case rt.verb == "deletecollection", rt.verb == "create" && !k.Virtual:
			return nil, methodNotAllowed()
		}
	}
	if msgs := path.IsValidPathSegmentName(rt.name); rt.name != "" && len(msgs) > 0 {
		return nil, badRequest("Name parameter invalid: %q: %s", rt.name, strings.Join(msgs, ", "))
	}
	if strings.Trim(rt.rest, "/") != "" && rt.sub != "proxy" {
		return nil, pathNotFound()
	}
	q.warn(s.deprecation(q.as)...)
	if v != nil && v.Retired != "" {
		q.warn(v.Retired)
		s.metrics.retired.WithLabelValues(rt.group, rt.version, rt.resource, rt.sub, "").Set(1)
	}
	return q, nil
}

// notServed is the answer to a resource that is not there: a Status where its
// group is served, as upstream.
func (s *Server) notServed(rt *route) error {
	for _, g := range s.groups() {
		if g.Name == rt.group {
			return pathNotFound()
		}
	}
	return errNoPage
}

// serveResource answers an authorized resource request.
func (s *Server) serveResource(c *call) (err error) {
	q, err := s.resolve(c)
	if err != nil {
		return err
	}
	// What is refused is warned about all the same.
	defer func() {
		if err != nil {
			c.sendWarnings(q)
		}
	}()
	if q.sub == nil || !connects(q) {
		if c.r.Method == http.MethodHead {
			return methodNotAllowed()
		}
		if err := s.answerable(c, q); err != nil {
			return err
		}
	}
	if q.sub != nil {
		return s.serveSubresource(c, q)
	}
	return s.serveVerb(c, q)
}

// answerable refuses a request whose answer could not be written in any way
// that the client accepts, before it changes anything.
func (s *Server) answerable(c *call, q *request) error {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return wrongShape(c.r, q, err)
	}
	if f.as == "Table" {
		switch include := c.r.URL.Query().Get("includeObject"); metav1.IncludeObjectPolicy(include) {
		case "", metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		default:
			return badRequest("Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", include)
		}
	}
	return nil
}

// wrongShape words the refusal of a list's metadata where there is an object,
// or the other way round, as upstream.
func wrongShape(r *http.Request, q *request, err error) error {
	f, other := negotiate(r, func(as, group, _ string) bool {
		return group == metav1.GroupName && strings.HasPrefix(as, "PartialObject")
	})
	if other != nil || f.as == "" {
		return err
	}
	what, kindName := "a list", internalName(q.as.listKind())
	if q.verb != "list" && q.verb != "deletecollection" {
		what, kindName = "not a list", internalName(q.as.gvk)
	}
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"you requested "+f.as+", but the requested object is "+what+" (*"+kindName+")")
}

// deprecation is upstream's warning about versions that are still served and
// shall not be used any more.
func (s *Server) deprecation(v version) []string {
	if known, ok := s.deprecations.Load(v.gvk); ok {
		return known.([]string)
	}
	said := deprecationOf(v)
	s.deprecations.Store(v.gvk, said)
	return said
}

func deprecationOf(v version) []string {
	if v.other != nil && v.other.Retired != "" {
		return nil // says so itself
	}
	d, ok := v.empty().(interface{ APILifecycleDeprecated() (major, minor int) })
	if !ok {
		return nil
	}
	major, minor := d.APILifecycleDeprecated()
	text := fmt.Sprintf("%s %s is deprecated in v%d.%d+", v.gvk.GroupVersion(), v.gvk.Kind, major, minor)
	if r, ok := d.(interface{ APILifecycleRemoved() (major, minor int) }); ok {
		if major, minor := r.APILifecycleRemoved(); major > 0 {
			text += fmt.Sprintf(", unavailable in v%d.%d+", major, minor)
		}
	}
	if r, ok := d.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		if gvk := r.APILifecycleReplacement(); !gvk.Empty() {
			text += fmt.Sprintf("; use %s %s", gvk.GroupVersion(), gvk.Kind)
		}
	}
	return []string{text}
}

func (s *Server) serveVerb(c *call, q *request) error {
	switch q.verb {
	case "get":
		return s.serveGet(c, q)
	case "list":
		return s.serveList(c, q)
	case "watch":
		return s.serveWatch(c, q)
	case "create":
		return s.serveCreate(c, q)
	case "update":
		return s.serveUpdate(c, q)
	case "patch":
		return s.servePatch(c, q)
	case "delete":
		return s.serveDelete(c, q)
	case "deletecollection":
		return s.serveDeleteCollection(c, q)
	}
	return apierrors.NewMethodNotSupported(q.gr(), q.verb)
}

func (s *Server) serveGet(c *call, q *request) error {
	fresh, err := getFreshness(c.r.URL.Query().Get("resourceVersion"))
	if err != nil {
		return err
	}
	if q.kind.Virtual {
		o, err := s.getVirtual(c.r.Context(), q)
		if err != nil {
			return err
		}
		return s.respond(c, q, http.StatusOK, result{object: o})
	}
	e, err := s.store.Get(c.r.Context(), q.gr(), q.key, fresh)
	if err != nil {
		return err
	}
	return s.respond(c, q, http.StatusOK, stored(e))
}

func (s *Server) serveList(c *call, q *request) error {
	o, err := parseListOptions(q, c.r.URL.Query(), false)
	if err != nil {
		return err
	}
	if q.kind.Virtual {
		all, err := s.listVirtual(c.r.Context(), q, o.filter)
		if err != nil {
			return err
		}
		return s.respondUnstored(c, q, s.store.Revision(), all)
	}
	p, err := s.list(c.r.Context(), q, o)
	if err != nil {
		return err
	}
	return s.respondList(c, q, p)
}

// writeOptions are the query parameters of create, update and patch.
func (s *Server) writeOptions(c *call, q *request, pt types.PatchType) error {
	query := c.r.URL.Query()
	var o metav1.PatchOptions
	if err := metav1.Convert_url_Values_To_v1_PatchOptions(&query, &o, nil); err != nil {
		return badRequest("%v", err)
	}
	kindName := map[string]string{"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}[q.verb]
	if q.verb != "patch" {
		o.Force = nil
	}
	errs := metavalidation.ValidateDryRun(nil, o.DryRun)
	errs = append(errs, metavalidation.ValidateFieldValidation(nil, o.FieldValidation)...)
	if q.verb == "patch" {
		errs = metavalidation.ValidatePatchOptions(&o, pt)
	} else {
		create := metav1.CreateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
		errs = metavalidation.ValidateCreateOptions(&create)
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kindName}, "", errs)
	}
	q.dryRun, c.dryRun = len(o.DryRun) > 0, len(o.DryRun) > 0
	q.force = o.Force != nil && *o.Force
	q.manager = o.FieldManager
	q.manager = q.fieldManager(c.r.UserAgent())
	q.fieldValidation = o.FieldValidation
	if q.fieldValidation == "" {
		q.fieldValidation = validateWarn
	}
	return nil
}

// decodeBody reads the request's body as an object of the client's version and
// converts it to the hub.
func (s *Server) decodeBody(c *call, q *request) (client.Object, error) {
	media, err := bodyMedia(c.r)
	if err != nil {
		return nil, err
	}
	body, err := readBody(c, s.cfg.MaxRequestBytes)
	if err != nil {
		return nil, err
	}
	o, warnings, err := s.codecs.decode(body, media, q.as, q.fieldValidation)
	if err != nil {
		return nil, err
	}
	q.warn(warnings...)
	c.noteObject(o)
	return q.as.toHub(o)
}

func (s *Server) serveCreate(c *call, q *request) error {
	if err := s.writeOptions(c, q, ""); err != nil {
		return err
	}
	obj, err := s.decodeBody(c, q)
	if err != nil {
		return err
	}
	if q.kind.Virtual {
		out, err := s.answerVirtual(c.r.Context(), q, obj)
		if err != nil {
			return err
		}
		return s.respondIn(c, q, q.as, http.StatusCreated, out)
	}
	r, err := s.create(c.r.Context(), q, obj, false)
	if err != nil {
		return err
	}
	c.route.name = r.object.GetName() // for the audit event
	return s.respond(c, q, http.StatusCreated, r)
}

func (s *Server) serveUpdate(c *call, q *request) error {
	if err := s.writeOptions(c, q, ""); err != nil {
		return err
	}
	obj, err := s.decodeBody(c, q)
	if err != nil {
		return err
	}
	if err := checkName(q, obj); err != nil {
		return err
	}
	r, err := s.put(c.r.Context(), q, obj)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if r.created {
		code = http.StatusCreated
	}
	return s.respond(c, q, code, r)
}

// put replaces the object, or creates it where its kind lets a PUT do that.
func (s *Server) put(ctx context.Context, q *request, obj client.Object) (result, error) {
	for {
		r, err := s.update(ctx, q, replace(q, obj))
		if !q.kind.CreateOnUpdate || !apierrors.IsNotFound(err) {
			return r, err
		}
		if uid := obj.GetUID(); uid != "" {
			return result{}, uidConflict(q, uid, "")
		}
		create := *q
		create.verb = "create"
		if err := s.authorize(ctx, create.attributes()); err != nil {
			return result{}, err
		}
		next := clone(obj)
		next.SetResourceVersion("")
		r, err = s.create(ctx, &create, next, false)
		q.warn(create.warnings...)
		if !apierrors.IsAlreadyExists(err) || ctx.Err() != nil {
			return r, err
		}
	}
}

// checkName compares the body's name with the path's.
func checkName(q *request, obj client.Object) error {
	if obj.GetName() == "" {
		return badRequest("the name of the object (%s based on URL) was undeterminable: name must be provided", q.key.Name)
	}
	if obj.GetName() != q.key.Name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), q.key.Name)
	}
	if q.key.Namespace != "" && obj.GetNamespace() != "" && obj.GetNamespace() != q.key.Namespace {
		return badRequest("%s", otherNamespace)
	}
	return nil
}

// decodeDeleteOptions reads them from the body, else from the query.
func (s *Server) decodeDeleteOptions(c *call, q *request) (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	body, err := readBody(c, s.cfg.MaxRequestBytes)
	if err != nil {
		return nil, err
	}
	query := c.r.URL.Query()
	if len(bytes.TrimSpace(body)) > 0 {
		media, err := bodyMedia(c.r)
		if err != nil {
			return nil, err
		}
		if err := s.decodeMeta(body, media, o); err != nil {
			return nil, err
		}
	} else if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&query, o, nil); err != nil {
		return nil, badRequest("%v", err)
	}
	// In the query of a collection the version is that of the list.
	if p := o.Preconditions; p != nil && q.verb == "deletecollection" && len(bytes.TrimSpace(body)) == 0 {
		p.ResourceVersion = nil
	}
	if dry, ok := query["dryRun"]; ok && len(o.DryRun) == 0 {
		o.DryRun = dry
	}
	if err := validateDeleteOptions(o); err != nil {
		return nil, err
	}
	q.dryRun, c.dryRun = len(o.DryRun) > 0, len(o.DryRun) > 0
	return o, nil
}

// decodeMeta reads an options kind. Clients send it under any group's version.
func (s *Server) decodeMeta(body []byte, media string, into runtime.Object) error {
	d := s.codecs.decoder(media, validateIgnore)
	want := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
	o, gvk, err := d.Decode(body, &want, into)
	if err != nil {
		return badRequest("%v", err)
	}
	if o != into {
		return badRequest("decoded object cannot be converted to DeleteOptions: it is a %s", gvk.Kind)
	}
	return nil
}

func (s *Server) serveDelete(c *call, q *request) error {
	o, err := s.decodeDeleteOptions(c, q)
	if err != nil {
		return err
	}
	r, err := s.delete(c.r.Context(), q, o)
	if err != nil {
		return err
	}
	return s.respondDeleted(c, q, o, r)
}

// respondDeleted answers a removal with a Status, except of kinds whose object
// upstream returns, and a deletion that goes on with the object.
func (s *Server) respondDeleted(c *call, q *request, o *metav1.DeleteOptions, r result) error {
	if r.gone && !returnsDeleted(q.kind) {
		st := &metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
			Details: &metav1.StatusDetails{Name: q.key.Name, Group: q.kind.Hub.Group, Kind: q.kind.Resource, UID: r.object.GetUID()},
		}
		return s.respondObject(c, q, http.StatusOK, st)
	}
	code := http.StatusOK
	//nolint:staticcheck // the deprecated option still decides the code, as upstream
	if !r.gone && o.OrphanDependents != nil && !*o.OrphanDependents {
		code = http.StatusAccepted
	}
	return s.respond(c, q, code, r)
}

// returnsDeleted lists the kinds whose deletion upstream answers with the
// object.
func returnsDeleted(k *kind.Kind) bool {
	switch k.GroupResource().String() {
	case "pods", "services", "serviceaccounts", "resourcequotas", "podtemplates",
		"persistentvolumes", "persistentvolumeclaims", "storageclasses.storage.k8s.io", "csidrivers.storage.k8s.io",
		"csinodes.storage.k8s.io", "volumeattachments.storage.k8s.io", "volumeattributesclasses.storage.k8s.io",
		"deviceclasses.resource.k8s.io", "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io", "resourceslices.resource.k8s.io":
		return true
	}
	return false
}

func (s *Server) serveDeleteCollection(c *call, q *request) error {
	lo, err := parseListOptions(q, c.r.URL.Query(), false)
	if err != nil {
		return err
	}
	o, err := s.decodeDeleteOptions(c, q)
	if err != nil {
		return err
	}
	gone, rev, err := s.deleteCollection(c.r.Context(), q, lo, o)
	if err != nil {
		return err
	}
	return s.respondUnstored(c, q, rev, gone)
}

// patchType reads the Content-Type of a PATCH.
func patchType(r *http.Request) (types.PatchType, error) {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	pt := types.PatchType(strings.TrimSpace(media))
	switch pt {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
		return pt, nil
	}
	return "", unsupportedPatch()
}

func (s *Server) servePatch(c *call, q *request) error {
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
	r, err := s.patch(c.r.Context(), q, pt, body)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if r.created {
		code = http.StatusCreated
	}
	return s.respond(c, q, code, r)
}
