package openapi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/kube-openapi/pkg/common"

	"binnacle.io/core/kind"
)

// The media types of objects, of patches and of watches.
const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

func objectMedia() []string { return []string{mediaJSON, mediaYAML, mediaProtobuf} }

func streamMedia() []string {
	return append(objectMedia(), mediaJSON+";stream=watch", mediaProtobuf+";stream=watch")
}

func patchMedia() []string {
	return []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"}
}

// everyVerb is what a kind answers that names no verbs.
func everyVerb() []string {
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

const prettyDoc = "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget)."

// resource makes the operations of one resource of a group version.
type resource struct {
	d          *definitions
	scheme     *runtime.Scheme
	m          kind.Match
	base       string // of the group version
	body, list any    // models; list is nil for kinds without lists
	out        []common.Route
}

// routesOf are the operations of a resource.
func routesOf(d *definitions, scheme *runtime.Scheme, m kind.Match) []common.Route {
	gvk := m.GVK()
	r := &resource{d: d, scheme: scheme, m: m, base: groupVersionPath(gvk.GroupVersion())}
	r.models()
	k := m.Kind
	verbs := k.Verbs
	if len(verbs) == 0 {
		verbs = everyVerb()
	}
	r.collection(verbs)
	r.single(verbs)
	for i := range k.Subresources {
		r.subresource(&k.Subresources[i])
	}
	return r.out
}

func groupVersionPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

func (r *resource) models() {
	k, v, gvk := r.m.Kind, r.m.Version, r.m.GVK()
	object, list := runtime.Object(nil), k.NewList
	if v != nil {
		object, list = v.New(), v.NewList
	} else {
		object = k.New()
	}
	if _, custom := object.(runtime.Unstructured); custom {
		r.body = r.d.custom(gvk, false)
		r.list = r.d.custom(gvk.GroupVersion().WithKind(gvk.Kind+"List"), true)
		return
	}
	r.body = r.d.add(reflect.TypeOf(object))
	if list != nil {
		r.list = r.d.add(reflect.TypeOf(list()))
	}
}

// namespaced is "Namespaced" in the operations of such kinds.
func (r *resource) namespaced() string {
	if r.m.Kind.ClusterScoped {
		return ""
	}
	return "Namespaced"
}

// path is where the collection is, below prefix, with its parameters.
func (r *resource) path(prefix string) (string, []parameter) {
	if r.m.Kind.ClusterScoped {
		return r.base + prefix + "/" + r.m.Kind.Resource, nil
	}
	return r.base + prefix + "/namespaces/{namespace}/" + r.m.Kind.Resource,
		[]parameter{pathParameter("namespace", "object name and auth scope, such as for teams and projects")}
}

func (r *resource) nameOf(kind string) parameter { return pathParameter("name", "name of the "+kind) }

// add completes an operation with what all have in common.
func (r *resource) add(o route, action string, gvk schema.GroupVersionKind) {
	o.metadata = map[string]any{"x-kubernetes-action": action, "x-kubernetes-group-version-kind": metav1.GroupVersionKind(gvk)}
	if o.consumes == nil {
		o.consumes = []string{"*/*"}
	}
	r.out = append(r.out, o)
}

func (r *resource) collection(verbs []string) {
	gvk, k := r.m.GVK(), r.m.Kind
	path, at := r.path("")
	list := func(path, operation, suffix string, at []parameter) {
		doc := "list objects of kind " + gvk.Kind
		if slices.Contains(verbs, "watch") {
			doc = "list or watch objects of kind " + gvk.Kind
		}
		r.add(route{
			method: http.MethodGet, path: path, operation: operation + gvk.Kind + suffix, doc: doc, produces: streamMedia(),
			responses: ok(r.list), parameters: join(pretty(), queryParameters(metav1.ListOptions{}), at),
		}, "list", gvk)
	}
	watch := func(path, operation, suffix string, at []parameter) {
		r.add(route{
			method: http.MethodGet, path: path, operation: operation + gvk.Kind + "List" + suffix, produces: streamMedia(),
			doc:       "watch individual changes to a list of " + gvk.Kind + ". deprecated: use the 'watch' parameter with a list operation instead.",
			responses: ok(r.d.add(reflect.TypeFor[metav1.WatchEvent]())), parameters: join(pretty(), queryParameters(metav1.ListOptions{}), at),
		}, "watchlist", gvk)
	}
	if slices.Contains(verbs, "list") {
		list(path, "list"+r.namespaced(), "", at)
		if !k.ClusterScoped {
			list(r.base+"/"+k.Resource, "list", "ForAllNamespaces", nil)
		}
	}
	if slices.Contains(verbs, "watch") {
		watchPath, _ := r.path("/watch")
		watch(watchPath, "watch"+r.namespaced(), "", at)
		if !k.ClusterScoped {
			watch(r.base+"/watch/"+k.Resource, "watch", "ForAllNamespaces", nil)
		}
	}
	if slices.Contains(verbs, "create") {
		r.add(route{
			method: http.MethodPost, path: path, operation: "create" + r.namespaced() + gvk.Kind, doc: "create" + article(gvk.Kind) + gvk.Kind,
			produces: objectMedia(), reads: r.body, responses: created(r.body), parameters: join(pretty(), queryParameters(metav1.CreateOptions{}), at),
		}, "post", gvk)
	}
	if slices.Contains(verbs, "deletecollection") {
		r.add(route{
			method: http.MethodDelete, path: path, operation: "deletecollection" + r.namespaced() + gvk.Kind, doc: "delete collection of " + gvk.Kind,
			produces: objectMedia(), reads: r.d.add(reflect.TypeFor[metav1.DeleteOptions]()), bodyOptional: true,
			responses:  ok(r.d.add(reflect.TypeFor[metav1.Status]())),
			parameters: join(pretty(), queryParameters(metav1.DeleteOptions{}), queryParameters(metav1.ListOptions{}, "watch", "allowWatchBookmarks"), at),
		}, "deletecollection", gvk)
	}
}

func (r *resource) single(verbs []string) {
	gvk := r.m.GVK()
	path, at := r.path("")
	at = join(at, []parameter{r.nameOf(gvk.Kind)})
	r.objectRoutes(path+"/{name}", "", verbs, gvk, r.body, at)
	if slices.Contains(verbs, "delete") {
		answer := any(r.d.add(reflect.TypeFor[metav1.Status]()))
		if answersDeleted(r.m.Kind.GroupResource()) {
			answer = r.body
		}
		r.add(route{
			method: http.MethodDelete, path: path + "/{name}", operation: "delete" + r.namespaced() + gvk.Kind, doc: "delete" + article(gvk.Kind) + gvk.Kind,
			produces: objectMedia(), reads: r.d.add(reflect.TypeFor[metav1.DeleteOptions]()), bodyOptional: true,
			responses:  []response{{http.StatusOK, "OK", answer}, {http.StatusAccepted, "Accepted", answer}},
			parameters: join(pretty(), queryParameters(metav1.DeleteOptions{}), at),
		}, "delete", gvk)
	}
	if slices.Contains(verbs, "watch") {
		watchPath, _ := r.path("/watch")
		r.add(route{
			method: http.MethodGet, path: watchPath + "/{name}", operation: "watch" + r.namespaced() + gvk.Kind, produces: streamMedia(),
			doc:       "watch changes to an object of kind " + gvk.Kind + ". deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter.",
			responses: ok(r.d.add(reflect.TypeFor[metav1.WatchEvent]())), parameters: join(pretty(), queryParameters(metav1.ListOptions{}), at),
		}, "watch", gvk)
	}
}

// objectRoutes are get, update and patch of an object or of a subresource that
// carries one.
func (r *resource) objectRoutes(path, sub string, verbs []string, gvk schema.GroupVersionKind, body any, at []parameter) {
	of, suffix := "the specified "+r.m.GVK().Kind, r.namespaced()+r.m.GVK().Kind+title(sub)
	if sub != "" {
		of = sub + " of " + of
	}
	if slices.Contains(verbs, "get") {
		o := route{
			method: http.MethodGet, path: path, operation: "read" + suffix, doc: "read " + of, produces: objectMedia(),
			responses: ok(body), parameters: join(pretty(), at),
		}
		if sub == "log" {
			o.produces = append([]string{"text/plain"}, objectMedia()...)
			o.responses = ok("string")
			o.parameters = join(o.parameters, r.optionsOf(schema.GroupVersionKind{Version: "v1", Kind: "PodLogOptions"}))
		}
		r.add(o, "get", gvk)
	}
	if slices.Contains(verbs, "update") {
		r.add(route{
			method: http.MethodPut, path: path, operation: "replace" + suffix, doc: "replace " + of, produces: objectMedia(), reads: body,
			responses: created(body)[:2], parameters: join(pretty(), queryParameters(metav1.UpdateOptions{}), at),
		}, "put", gvk)
	}
	if slices.Contains(verbs, "patch") {
		r.add(route{
			method: http.MethodPatch, path: path, operation: "patch" + suffix, doc: "partially update " + of, produces: objectMedia(),
			consumes: patchMedia(), reads: r.d.add(reflect.TypeFor[metav1.Patch]()),
			responses: created(body)[:2], parameters: join(pretty(), queryParameters(metav1.PatchOptions{}), at),
		}, "patch", gvk)
	}
}

// connects are the methods of subresources that are connections.
func connects(sub string) []string {
	switch sub {
	case "exec", "attach", "portforward":
		return []string{http.MethodGet, http.MethodPost}
	case "proxy":
		return []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
	}
	return nil
}

func (r *resource) subresource(sub *kind.Subresource) {
	gvk, body := r.m.GVK(), r.body
	path, at := r.path("")
	path += "/{name}/" + sub.Name
	if methods := connects(sub.Name); methods != nil {
		at = join(at, []parameter{r.nameOf(sub.Body.Kind)}, r.optionsOf(sub.Body))
		r.connect(path, "", sub, methods, at)
		if sub.Name == "proxy" {
			r.connect(path+"/{path}", "WithPath", sub, methods, join(at, []parameter{pathParameter("path", "path to the resource")}))
		}
		return
	}
	if !sub.Body.Empty() && sub.Body != gvk {
		o, err := r.scheme.New(sub.Body)
		if err != nil {
			return // nothing is known of what travels
		}
		gvk, body = sub.Body, r.d.add(reflect.TypeOf(o))
	}
	at = join(at, []parameter{r.nameOf(gvk.Kind)})
	r.objectRoutes(path, sub.Name, sub.Verbs, gvk, body, at)
	if slices.Contains(sub.Verbs, "create") {
		parent := r.m.GVK().Kind
		r.add(route{
			method: http.MethodPost, path: path, operation: "create" + r.namespaced() + parent + title(sub.Name),
			doc: "create " + sub.Name + " of" + article(parent) + parent, produces: objectMedia(), reads: body,
			responses: created(body), parameters: join(pretty(), queryParameters(metav1.CreateOptions{}), at),
		}, "post", gvk)
	}
}

func (r *resource) connect(path, suffix string, sub *kind.Subresource, methods []string, at []parameter) {
	parent := r.m.GVK().Kind
	for _, method := range methods {
		r.add(route{
			method: method, path: path, operation: "connect" + title(strings.ToLower(method)) + r.namespaced() + parent + title(sub.Name) + suffix,
			doc: "connect " + method + " requests to " + sub.Name + " of " + parent, produces: []string{"*/*"},
			responses: ok("string"), parameters: at,
		}, "connect", sub.Body)
	}
}

// optionsOf are the query parameters that an options type stands for.
func (r *resource) optionsOf(gvk schema.GroupVersionKind) []parameter {
	o, err := r.scheme.New(gvk)
	if err != nil {
		return nil // a kind of the catalogue alone has none
	}
	return queryParameters(reflect.ValueOf(o).Elem().Interface())
}

// answersDeleted are the kinds whose deletion answers with the object.
func answersDeleted(gr schema.GroupResource) bool {
	switch gr.Group {
	case "":
		return slices.Contains([]string{"persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates", "resourcequotas", "serviceaccounts", "services"}, gr.Resource)
	case "resource.k8s.io":
		return gr.Resource != "devicetaintrules"
	case "storage.k8s.io":
		return gr.Resource != "csistoragecapacities"
	}
	return false
}

// discovery is a document of discovery or the like at a path.
func discoveryRoute(d *definitions, path string) route {
	trimmed := strings.Trim(path, "/")
	o := route{method: http.MethodGet, path: path, consumes: objectMedia(), produces: objectMedia()}
	switch parts := strings.Split(trimmed, "/"); {
	case trimmed == "version":
		o.operation, o.doc = "getCodeVersion", "get the version information for this server"
		o.consumes, o.produces, o.responses = []string{mediaJSON}, []string{mediaJSON}, ok(d.add(reflect.TypeFor[kubeversion.Info]()))
	case trimmed == "openid/v1/jwks":
		o.operation, o.doc = "getServiceAccountIssuerOpenIDKeyset", "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)"
		o.consumes, o.produces, o.responses = nil, []string{"application/jwk-set+json"}, ok("string")
	case parts[0] == ".well-known":
		o.operation, o.doc = "getServiceAccountIssuerOpenIDConfiguration", "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'"
		o.consumes, o.produces, o.responses = nil, []string{mediaJSON}, ok("string")
	case trimmed == "api":
		o.operation, o.doc, o.responses = "getAPIVersions", "get available API versions", ok(d.add(reflect.TypeFor[metav1.APIVersions]()))
	case trimmed == "apis":
		o.operation, o.doc, o.responses = "getAPIVersions", "get available API versions", ok(d.add(reflect.TypeFor[metav1.APIGroupList]()))
	case parts[0] == "apis" && len(parts) == 2:
		o.operation, o.doc, o.responses = "getAPIGroup", "get information of a group", ok(d.add(reflect.TypeFor[metav1.APIGroup]()))
	default:
		o.operation, o.doc, o.responses = "getAPIResources", "get available resources", ok(d.add(reflect.TypeFor[metav1.APIResourceList]()))
	}
	return o
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + strings.ToLower(s[1:])
}

// article is that of a noun, with spaces around it.
func article(noun string) string {
	switch {
	case strings.HasSuffix(noun, "s") && !strings.HasSuffix(noun, "ss"):
		return " "
	case strings.ContainsRune("aeiou", unicode.ToLower(rune(noun[0]))):
		return " an "
	}
	return " a "
}
