package openapi

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"binnacle.io/core/kind"
)

// everyVerb is what a kind answers that names no verbs.
var everyVerb = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// describe adds one resource of a group version: its definitions and paths.
func (d *definitions) describe(paths map[string]spec.PathItem, m kind.Match, scheme *runtime.Scheme) {
	k, gvk := m.Kind, m.GVK()
	object, list := k.New, k.NewList
	if m.Version != nil {
		list = m.Version.NewList
	}
	var obj runtime.Object
	if m.Version != nil {
		obj = m.Version.New()
	} else {
		obj = object()
	}
	body := d.of(reflect.TypeOf(obj))
	d.mark(nameOf(obj), gvk)
	listBody := body
	if list != nil {
		if l := list(); l != nil {
			listBody = d.of(reflect.TypeOf(l))
			d.mark(nameOf(l), gvk.GroupVersion().WithKind(gvk.Kind+"List"))
		}
	}

	base := "/apis/" + gvk.Group + "/" + gvk.Version
	if gvk.Group == "" {
		base = "/api/" + gvk.Version
	}
	tag := strings.ReplaceAll(strings.TrimPrefix(base, "/"), "/", "_")
	p := maker{d: d, gvk: gvk, tag: tag}
	verbs := k.Verbs
	if len(verbs) == 0 {
		verbs = everyVerb
	}
	if !k.ClusterScoped {
		if slices.Contains(verbs, "list") {
			paths[base+"/"+k.Resource] = p.item(nil, p.op("get", "list", "AllNamespaces", nil, listBody, listParameters()))
		}
		base += "/namespaces/{namespace}"
		p.shared = append(p.shared, pathParameter("namespace", "object name and auth scope, such as for teams and projects"))
	}
	p.collection(paths, base+"/"+k.Resource, verbs, body, listBody)
	p.shared = append(p.shared, pathParameter("name", "name of the "+gvk.Kind))
	p.single(paths, base+"/"+k.Resource+"/{name}", verbs, body)
	for _, sub := range k.Subresources {
		subBody, subGVK := body, gvk
		if sub.Body != (schema.GroupVersionKind{}) {
			o, err := scheme.New(sub.Body)
			if err != nil {
				continue // a connection (log, exec) has no body
			}
			subBody, subGVK = d.of(reflect.TypeOf(o)), sub.Body
			if _, marked := d.schemas[nameOf(o)].Extensions["x-kubernetes-group-version-kind"]; !marked {
				d.mark(nameOf(o), sub.Body)
			}
		}
		sp := maker{d: d, gvk: subGVK, tag: tag, shared: p.shared}
		path := base + "/" + k.Resource + "/{name}/" + sub.Name
		sp.single(paths, path, sub.Verbs, subBody)
		if slices.Contains(sub.Verbs, "create") {
			item := paths[path]
			item.Post = sp.op("post", "post", "", &subBody, subBody, writeParameters()).Operation
			item.Parameters = sp.shared
			paths[path] = item
		}
	}
}

func nameOf(o runtime.Object) string {
	if m, ok := o.(modelNamed); ok {
		return m.OpenAPIModelName()
	}
	return ""
}

// maker makes the operations of one resource.
type maker struct {
	d      *definitions
	gvk    schema.GroupVersionKind
	tag    string
	shared []spec.Parameter
}

// method is an operation with the HTTP method it answers.
type method struct {
	name string
	*spec.Operation
}

func (m maker) collection(paths map[string]spec.PathItem, path string, verbs []string, body, list spec.Schema) {
	var ops []method
	if slices.Contains(verbs, "list") {
		ops = append(ops, m.op("get", "list", "", nil, list, listParameters()))
	}
	if slices.Contains(verbs, "create") {
		ops = append(ops, m.op("post", "post", "", &body, body, writeParameters()))
	}
	if slices.Contains(verbs, "deletecollection") {
		options, status := m.d.of(reflect.TypeFor[metav1.DeleteOptions]()), m.d.of(reflect.TypeFor[metav1.Status]())
		ops = append(ops, m.op("delete", "deletecollection", "", &options, status, append(deleteParameters(), listParameters()...)))
	}
	if len(ops) > 0 {
		paths[path] = m.item(m.shared, ops...)
	}
}

func (m maker) single(paths map[string]spec.PathItem, path string, verbs []string, body spec.Schema) {
	var ops []method
	for _, v := range verbs {
		switch v {
		case "get":
			ops = append(ops, m.op("get", "get", "", nil, body, nil))
		case "update":
			ops = append(ops, m.op("put", "put", "", &body, body, writeParameters()))
		case "patch":
			patch := m.d.of(reflect.TypeFor[metav1.Patch]())
			op := m.op("patch", "patch", "", &patch, body, append(writeParameters(),
				queryParameter("force", "boolean", "Force is going to \"force\" Apply requests.")))
			op.Consumes = []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
				"application/apply-patch+yaml", "application/apply-patch+cbor"}
			ops = append(ops, op)
		case "delete":
			options, status := m.d.of(reflect.TypeFor[metav1.DeleteOptions]()), m.d.of(reflect.TypeFor[metav1.Status]())
			ops = append(ops, m.op("delete", "delete", "", &options, status, deleteParameters()))
		}
	}
	if len(ops) > 0 {
		paths[path] = m.item(m.shared, ops...)
	}
}

func (m maker) item(shared []spec.Parameter, ops ...method) spec.PathItem {
	item := spec.PathItem{PathItemProps: spec.PathItemProps{Parameters: append(slices.Clone(shared),
		queryParameter("pretty", "string", "If 'true', then the output is pretty printed."))}}
	for _, op := range ops {
		switch op.name {
		case "get":
			item.Get = op.Operation
		case "post":
			item.Post = op.Operation
		case "put":
			item.Put = op.Operation
		case "patch":
			item.Patch = op.Operation
		case "delete":
			item.Delete = op.Operation
		}
	}
	return item
}

func (m maker) op(httpMethod, action, suffix string, body *spec.Schema, answer spec.Schema, params []spec.Parameter) method {
	mediaTypes := []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	op := &spec.Operation{OperationProps: spec.OperationProps{
		Description: action + " " + m.gvk.Kind,
		Consumes:    []string{"*/*"},
		Produces:    mediaTypes,
		Schemes:     []string{"https"},
		Tags:        []string{m.tag},
		ID:          action + m.tag + m.gvk.Kind + suffix,
		Parameters:  params,
		Responses: &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: map[int]spec.Response{
			200: {ResponseProps: spec.ResponseProps{Description: "OK", Schema: &answer}},
			401: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}},
		}}},
	}}
	if action == "list" {
		op.Produces = append(mediaTypes, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
	}
	if body != nil {
		op.Parameters = append([]spec.Parameter{{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: httpMethod != "delete", Schema: body}}}, op.Parameters...)
	}
	op.AddExtension("x-kubernetes-action", action)
	op.AddExtension("x-kubernetes-group-version-kind", gvkMap(m.gvk))
	return method{httpMethod, op}
}

func pathParameter(name, description string) spec.Parameter {
	return spec.Parameter{
		ParamProps:        spec.ParamProps{Name: name, In: "path", Required: true, Description: description},
		SimpleSchema:      spec.SimpleSchema{Type: "string"},
		CommonValidations: spec.CommonValidations{UniqueItems: true},
	}
}

func queryParameter(name, kind, description string) spec.Parameter {
	return spec.Parameter{
		ParamProps:        spec.ParamProps{Name: name, In: "query", Description: description},
		SimpleSchema:      spec.SimpleSchema{Type: kind},
		CommonValidations: spec.CommonValidations{UniqueItems: true},
	}
}

func writeParameters() []spec.Parameter {
	return []spec.Parameter{
		queryParameter("dryRun", "string", "When present, indicates that modifications should not be persisted: All."),
		queryParameter("fieldManager", "string", "fieldManager is a name associated with the actor or entity that is making these changes."),
		queryParameter("fieldValidation", "string", "What to do with unknown and duplicate fields: Ignore, Warn, Strict."),
	}
}

func deleteParameters() []spec.Parameter {
	return []spec.Parameter{
		queryParameter("dryRun", "string", "When present, indicates that modifications should not be persisted: All."),
		queryParameter("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
		queryParameter("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
		queryParameter("propagationPolicy", "string", "Whether and how garbage collection will be performed: Orphan, Background, Foreground."),
	}
}

func listParameters() []spec.Parameter {
	return []spec.Parameter{
		queryParameter("allowWatchBookmarks", "boolean", "Requests watch events with type BOOKMARK."),
		queryParameter("continue", "string", "Where to go on with a list that was cut by limit."),
		queryParameter("fieldSelector", "string", "A selector to restrict the list of returned objects by their fields."),
		queryParameter("labelSelector", "string", "A selector to restrict the list of returned objects by their labels."),
		queryParameter("limit", "integer", "The most objects to return."),
		queryParameter("resourceVersion", "string", "How recent the answer has to be."),
		queryParameter("resourceVersionMatch", "string", "How resourceVersion is applied: NotOlderThan, Exact."),
		queryParameter("sendInitialEvents", "boolean", "Begin a watch with the present state."),
		queryParameter("timeoutSeconds", "integer", "When a list or watch ends, whatever happens."),
		queryParameter("watch", "boolean", "Follow changes instead of listing."),
	}
}
