package flowcontrol

import (
	"net/url"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/fields"
)

// watched is what a watch may be told of. Namespace and name are empty where
// it is not restricted to one.
type watched struct{ group, resource, namespace, name string }

// watchers counts the watches under way by what they are told of.
type watchers struct {
	mu    sync.RWMutex
	count map[watched]int // guarded by mu
}

// add returns what takes the watch out again, or nil when it is not counted:
// pods of one node are found by an index, so such a watch costs a write nothing
// unless it concerns that node.
func (w *watchers) add(r *Request) func() {
	if r.Resource == "pods" && strings.Contains(r.RawQuery, "nodeName") && oneNode(r.RawQuery) {
		return nil
	}
	key := watched{r.Group, r.Resource, r.Namespace, r.Name}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count[key]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.count[key]--; w.count[key] <= 0 {
			delete(w.count, key)
		}
	}
}

func oneNode(rawQuery string) bool {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return false
	}
	sel, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		return false
	}
	node, ok := sel.RequiresExactMatch("spec.nodeName")
	return ok && node != ""
}

// interested counts the watches that a write is told to.
func (w *watchers) interested(r *Request) int {
	key := watched{group: r.Group, resource: r.Resource}
	w.mu.RLock()
	defer w.mu.RUnlock()
	n := w.count[key]
	if r.Namespace != "" {
		key.namespace = r.Namespace
		n += w.count[key]
	}
	if r.Name != "" {
		key.name = r.Name
		n += w.count[key]
		if r.Namespace != "" {
			key.namespace = ""
			n += w.count[key]
		}
	}
	return n
}
