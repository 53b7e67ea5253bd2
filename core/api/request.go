package api

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
)

// How unknown and duplicate fields are answered.
const (
	validateIgnore = "Ignore"
	validateWarn   = "Warn"
	validateStrict = "Strict"
)

// request is one resource request below decoding, whichever door it came in
// by. It is used by one goroutine.
type request struct {
	user *auth.User
	verb string
	kind *kind.Kind
	// as is the version in which the client speaks.
	as  version
	key client.Key
	// sub is nil for the object itself.
	sub *kind.Subresource

	dryRun          bool
	manager         string
	force           bool
	fieldValidation string

	// warnings collects what is sent as Warning headers.
	warnings []string
	// start is when the request arrived.
	start time.Time
	// selected is the one name that a list or watch selects: who may only read
	// that object may list it.
	selected string
	// fields and labels are what an in-process list or watch selects by.
	fields fields.Selector
	labels labels.Selector
}

func (q *request) gr() schema.GroupResource { return q.kind.GroupResource() }

// asked is the resource by the name under which the client asked for it.
func (q *request) asked() schema.GroupResource {
	return schema.GroupResource{Group: q.as.gvk.Group, Resource: q.kind.Resource}
}

func (q *request) subName() string {
	if q.sub == nil {
		return ""
	}
	return q.sub.Name
}

func (q *request) warn(texts ...string) {
	for _, t := range texts {
		if !slices.Contains(q.warnings, t) {
			q.warnings = append(q.warnings, t)
		}
	}
}

// fieldManager is the name recorded in managedFields: what the client said,
// else its program's name.
func (q *request) fieldManager(userAgent string) string {
	if q.manager != "" {
		return q.manager
	}
	name, _, _ := strings.Cut(userAgent, "/")
	if len(name) > 128 {
		name = name[:128]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, name)
}

func (q *request) attributes() auth.Attributes {
	a := auth.Attributes{
		User: q.user, Verb: q.verb,
		Group: q.as.gvk.Group, Version: q.as.gvk.Version, Resource: q.kind.Resource, Subresource: q.subName(),
		Namespace: q.key.Namespace, Name: q.key.Name,
	}
	if a.Name == "" {
		a.Name = q.selected
	}
	if q.fields != nil {
		a.Fields = q.fields.Requirements()
	}
	if q.labels != nil {
		a.Labels, _ = q.labels.Requirements()
	}
	// A namespace is authorized within itself, as its path has it.
	if a.Group == "" && a.Resource == "namespaces" {
		a.Namespace = a.Name
	}
	return a
}

// result is what a verb answers: an object, with the entry that holds it
// where it is stored.
type result struct {
	object client.Object
	entry  *store.Entry
	// created tells an apply that made the object from one that changed it.
	created bool
	// gone reports that a delete removed the object at once.
	gone bool
}

func stored(e *store.Entry) result { return result{object: e.Object, entry: e} }
