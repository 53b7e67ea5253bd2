package openapi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"k8s.io/kube-openapi/pkg/common"
)

// route is one operation as kube-openapi's builders read it.
type route struct {
	method, path, operation, doc string
	consumes, produces           []string
	parameters                   []parameter
	reads                        any
	bodyOptional                 bool
	responses                    []response
	metadata                     map[string]any
}

// Method, and what follows, implements common.Route.
func (r route) Method() string             { return r.method }
func (r route) Path() string               { return r.path }
func (r route) OperationName() string      { return r.operation }
func (r route) Description() string        { return r.doc }
func (r route) Consumes() []string         { return r.consumes }
func (r route) Produces() []string         { return r.produces }
func (r route) Metadata() map[string]any   { return r.metadata }
func (r route) RequestPayloadSample() any  { return r.reads }
func (r route) ResponsePayloadSample() any { return nil }
func (r route) Parameters() []common.Parameter {
	var out []common.Parameter
	for _, p := range r.parameters {
		out = append(out, p)
	}
	if r.reads != nil {
		out = append(out, parameter{name: "body", in: common.BodyParameterKind, required: !r.bodyOptional})
	}
	return out
}

// StatusCodeResponses implements common.Route.
func (r route) StatusCodeResponses() []common.StatusCodeResponse {
	var out []common.StatusCodeResponse
	for _, a := range r.responses {
		out = append(out, a)
	}
	return out
}

// response is an answer with its model.
type response struct {
	code    int
	message string
	model   any
}

// Code, and what follows, implements common.StatusCodeResponse.
func (r response) Code() int       { return r.code }
func (r response) Message() string { return r.message }
func (r response) Model() any      { return r.model }

func ok(model any) []response { return []response{{http.StatusOK, "OK", model}} }

func created(model any) []response {
	return []response{{http.StatusOK, "OK", model}, {http.StatusCreated, "Created", model}, {http.StatusAccepted, "Accepted", model}}
}

type parameter struct {
	name, doc, kind string
	in              common.ParameterKind
	required        bool
}

// Name, and what follows, implements common.Parameter.
func (p parameter) Name() string               { return p.name }
func (p parameter) Description() string        { return p.doc }
func (p parameter) Required() bool             { return p.required }
func (p parameter) Kind() common.ParameterKind { return p.in }
func (p parameter) DataType() string           { return p.kind }
func (p parameter) AllowMultiple() bool        { return false }

func pathParameter(name, doc string) parameter {
	return parameter{name: name, doc: doc, kind: "string", in: common.PathParameterKind, required: true}
}

func pretty() []parameter {
	return []parameter{{name: "pretty", doc: prettyDoc, kind: "string", in: common.QueryParameterKind}}
}

func join(lists ...[]parameter) []parameter { return slices.Concat(lists...) }

// queryParameters are the fields of an options type that fit into a query.
func queryParameters(options any, except ...string) []parameter {
	t := reflect.TypeOf(options)
	docs := docsOf(t)
	var out []parameter
	for i := range t.NumField() {
		f := t.Field(i)
		name, _ := jsonName(f)
		ft := f.Type
		if ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if name == "" || name == "-" || slices.Contains(except, name) || ft.Kind() == reflect.Struct {
			continue
		}
		kind := "string"
		switch ft.Kind() {
		case reflect.Bool:
			kind = "boolean"
		case reflect.Int32, reflect.Int64:
			kind = "integer"
		}
		out = append(out, parameter{name: name, doc: docs[name], kind: kind, in: common.QueryParameterKind})
	}
	return out
}

// container holds the routes of one document.
type container []common.Route

// RootPath, and what follows, implements common.RouteContainer.
func (container) RootPath() string                   { return "" }
func (container) PathParameters() []common.Parameter { return nil }
func (c container) Routes() []common.Route           { return c }

// operationID puts the group version after the verb: listCoreV1NamespacedPod.
// The tag is the group version.
func operationID(r common.Route) (string, []string, error) {
	verb, rest := r.OperationName(), ""
	for _, v := range []string{"create", "delete", "connect", "get", "list", "patch", "proxy", "read", "replace", "watch"} {
		if after, found := strings.CutPrefix(r.OperationName(), v); found {
			verb, rest = v, after
			break
		}
	}
	parts := strings.Split(strings.Trim(r.Path(), "/"), "/")
	if parts[0] == "api" {
		parts = append([]string{"apis", "core"}, parts[1:]...)
	}
	if parts[0] != "apis" || len(parts) < 2 {
		return verb + rest, []string{identifier(parts[0], false)}, nil
	}
	group := strings.TrimSuffix(parts[1], ".k8s.io")
	id, tag := verb+identifier(group, true), identifier(group, false)
	if len(parts) > 2 {
		id += identifier(parts[2], true)
		tag += "_" + identifier(parts[2], false)
	}
	return id + identifier(rest, true), []string{tag}, nil
}

// identifier drops what cannot be in an identifier and begins a word after it.
func identifier(s string, upper bool) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case !unicode.IsLetter(c) && c != '_' && (i == 0 || !unicode.IsDigit(c)):
			upper = true
		case upper:
			b.WriteRune(unicode.ToUpper(c))
			upper = false
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
