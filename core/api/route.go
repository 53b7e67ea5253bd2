package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
)

// route is what a URL path and method say.
type route struct {
	// resource requests
	isResource bool
	group      string
	version    string
	namespace  string
	resource   string
	name       string
	sub        string
	// rest of the path below the subresource, without leading slash (proxy)
	rest string
	verb string

	path string
}

// longRunning requests are outside time limits and in-flight limits.
func (r *route) longRunning() bool {
	if !r.isResource {
		return strings.HasPrefix(r.path, "/debug/pprof/")
	}
	if r.verb == "watch" {
		return true
	}
	switch r.sub {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}

func (r *route) mutating() bool { return mutates(r.verb) }

func mutates(verb string) bool {
	switch verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// parseRoute reads method, path and query as upstream's request info does.
// It never fails: what it does not know is a non-resource path.
func parseRoute(method, path string, query url.Values) route {
	r := route{path: path, verb: strings.ToLower(method)}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		r.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		r.group, r.version, parts = parts[1], parts[2], parts[3:]
	default:
		return r
	}
	r.isResource = true
	switch method {
	case http.MethodPost:
		r.verb = "create"
	case http.MethodGet, http.MethodHead:
		r.verb = "get"
	case http.MethodPut:
		r.verb = "update"
	case http.MethodPatch:
		r.verb = "patch"
	case http.MethodDelete:
		r.verb = "delete"
	default:
		r.verb = ""
	}
	legacyWatch := false
	if parts[0] == "watch" && len(parts) > 1 {
		legacyWatch, parts = true, parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		r.namespace = parts[1]
		if len(parts) > 2 && !slices.Contains([]string{"status", "finalize"}, parts[2]) {
			parts = parts[2:]
		}
	}
	r.resource = parts[0]
	if len(parts) > 1 {
		r.name = parts[1]
	}
	if len(parts) > 2 {
		r.sub = parts[2]
	}
	if len(parts) > 3 {
		r.rest = strings.Join(parts[3:], "/")
		if strings.HasSuffix(path, "/") {
			r.rest += "/"
		}
	} else if len(parts) == 3 && strings.HasSuffix(path, "/") {
		r.rest = "/"
	}
	switch {
	case legacyWatch && r.verb == "get":
		r.verb = "watch"
	case legacyWatch:
		r.verb = "" // nothing else is done there
	case r.name == "" && r.verb == "get":
		r.verb = "list"
		if isTrue(query, "watch") {
			r.verb = "watch"
		}
	case r.name == "" && r.verb == "delete":
		r.verb = "deletecollection"
	}
	return r
}

// authorizedName is the name a request is authorized for: a list or watch of
// one name by field selector counts as that name, as upstream has it.
func (r *route) authorizedName(query url.Values) string {
	if r.name != "" || (r.verb != "list" && r.verb != "watch" && r.verb != "deletecollection") {
		return r.name
	}
	if s := query.Get("fieldSelector"); s != "" {
		if sel, err := fields.ParseSelector(s); err == nil {
			if name, ok := sel.RequiresExactMatch("metadata.name"); ok {
				return name
			}
		}
	}
	return ""
}

func isTrue(q url.Values, key string) bool {
	v, ok := q[key]
	if !ok || len(v) == 0 {
		return false
	}
	switch strings.ToLower(v[0]) {
	case "false", "0":
		return false
	}
	return true
}

// template is the route with its variables left out, for span names.
func (r *route) template() string {
	var b strings.Builder
	if r.group == "" {
		b.WriteString("/api/")
	} else {
		b.WriteString("/apis/" + r.group + "/")
	}
	b.WriteString(r.version)
	if r.namespace != "" && r.resource != "namespaces" {
		b.WriteString("/namespaces/{ns}")
	}
	b.WriteString("/" + r.resource)
	if r.name != "" {
		b.WriteString("/{name}")
	}
	if r.sub != "" {
		b.WriteString("/" + r.sub)
	}
	if r.rest != "" {
		b.WriteString("/{path}")
	}
	return b.String()
}
