package store

import (
	"iter"
	"strconv"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// Filter selects objects. Its zero value selects all.
type Filter struct {
	Namespace, Name string
	Labels          labels.Selector
	// Fields may ask for metadata.name, metadata.namespace and what the
	// kind's Fields function returns.
	Fields fields.Selector
}

// normal moves exact demands on name and namespace out of Fields and reports
// whether the filter contradicts itself, and so selects nothing.
func (f Filter) normal() (_ Filter, none bool) {
	if f.Labels != nil && f.Labels.Empty() {
		f.Labels = nil
	}
	if f.Fields != nil && f.Fields.Empty() {
		f.Fields = nil
	}
	if f.Fields == nil {
		return f, false
	}
	for _, demand := range []struct {
		field string
		into  *string
	}{{"metadata.name", &f.Name}, {"metadata.namespace", &f.Namespace}} {
		if v, ok := f.Fields.RequiresExactMatch(demand.field); ok {
			if *demand.into != "" && *demand.into != v {
				return f, true
			}
			*demand.into = v
		}
	}
	return f, false
}

// index returns the index that finds what f selects of kind k, if there is one.
func (f Filter) index(k *kind.Kind) (indexKey, bool) {
	if f.Name != "" && (k.ClusterScoped || f.Namespace != "") {
		return indexKey{byName, pathOf(client.Key{Namespace: f.Namespace, Name: f.Name})}, true
	}
	if f.Fields != nil && k.Hub.Group == "" && k.Resource == "pods" {
		if node, ok := f.Fields.RequiresExactMatch("spec.nodeName"); ok && node != "" {
			return indexKey{byNode, node}, true
		}
	}
	return indexKey{}, false
}

// labelMarks has two bits set for every label: an object that lacks one of
// them lacks the label.
func labelMarks(all map[string]string) uint64 {
	var marks uint64
	for key, value := range all {
		marks |= labelMark(key, value)
	}
	return marks
}

func labelMark(key, value string) uint64 {
	// FNV-1a.
	hash := uint64(14695981039346656037)
	for _, part := range [...]string{key, "=", value} {
		for i := range len(part) {
			hash = (hash ^ uint64(part[i])) * 1099511628211
		}
	}
	hash ^= hash >> 32
	return 1<<(hash&63) | 1<<(hash>>6&63)
}

// marks are those of the labels that f demands.
func (f Filter) marks() uint64 {
	if f.Labels == nil {
		return 0
	}
	var marks uint64
	demands, _ := f.Labels.Requirements()
	for _, d := range demands {
		switch d.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if values := d.ValuesUnsorted(); len(values) == 1 {
				marks |= labelMark(d.Key(), values[0])
			}
		}
	}
	return marks
}

func (f Filter) matches(k *kind.Kind, e *Entry) bool {
	if f.Namespace != "" && e.Key.Namespace != f.Namespace || f.Name != "" && e.Key.Name != f.Name {
		return false
	}
	if f.Labels != nil && !f.Labels.Matches(labels.Set(e.Object.GetLabels())) {
		return false
	}
	return f.Fields == nil || f.Fields.Matches(fieldsOf(k, e))
}

func fieldsOf(k *kind.Kind, e *Entry) fields.Set {
	set := fields.Set{}
	if k.Fields != nil {
		if own := k.Fields(e.Object); own != nil {
			set = own
		}
	}
	set["metadata.name"] = e.Key.Name
	set["metadata.namespace"] = e.Key.Namespace
	return set
}

// as is the entry's object as of another revision.
func (e *Entry) as(revision int64) *Entry {
	obj := e.Object.DeepCopyObject().(client.Object)
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return &Entry{Key: e.Key, Revision: revision, Object: obj, path: e.path, marks: e.marks, size: e.size, cache: e.cache}
}

// Snapshot is an immutable, ordered view of one kind. Order is etcd's: by
// "namespace/name" bytewise.
type Snapshot struct {
	table    *table
	revision int64
	entries  *tree
}

// Revision is the revision the view is of: the resourceVersion of a list, from
// which a watch continues.
func (s Snapshot) Revision() int64 { return s.revision }

// Len counts the objects in the view.
func (s Snapshot) Len() int { return s.entries.Len() }

// Get finds one object.
func (s Snapshot) Get(key client.Key) (*Entry, bool) {
	it, ok := s.entries.Get(item{path: pathOf(key)})
	return it.entry, ok
}

// All yields the objects of a namespace, or all with an empty one.
func (s Snapshot) All(namespace string) iter.Seq[*Entry] {
	return s.rng(namespace, "", 0)
}

// After yields the objects of a namespace (or all) that follow key in order.
// key need not exist.
func (s Snapshot) After(namespace string, key client.Key) iter.Seq[*Entry] {
	return s.rng(namespace, pathOf(key)+"\x00", 0)
}

// rng yields the entries of a namespace from a path on that have all marks.
func (s Snapshot) rng(namespace, from string, marks uint64) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		each := func(it item) bool { return it.marks&marks != marks || yield(it.entry) }
		if namespace == "" {
			s.entries.AscendGreaterOrEqual(item{path: from}, each)
			return
		}
		// '0' is the byte after '/'.
		s.entries.AscendRange(item{path: max(from, namespace+"/")}, item{path: namespace + "0"}, each)
	}
}

// Select yields what f selects, in order.
func (s Snapshot) Select(f Filter) iter.Seq[*Entry] { return s.sel(f, "") }

// SelectAfter yields what f selects of what follows key in order.
func (s Snapshot) SelectAfter(f Filter, key client.Key) iter.Seq[*Entry] {
	return s.sel(f, pathOf(key)+"\x00")
}

func (s Snapshot) sel(f Filter, from string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		f, none := f.normal()
		if none {
			return
		}
		k := s.table.kind
		idx, _ := f.index(k)
		if idx.by == byName {
			if it, ok := s.entries.Get(item{path: idx.value}); ok && it.path >= from && f.matches(k, it.entry) {
				yield(it.entry)
			}
			return
		}
		for e := range s.rng(f.Namespace, from, f.marks()) {
			// Making a field set costs far more than this look.
			if idx.by == byNode && nodeOf(e) != idx.value {
				continue
			}
			if f.matches(k, e) && !yield(e) {
				return
			}
		}
	}
}

// Keep makes the view available to Exact reads of its revision for a while
// (Config.KeepFor), whatever is written meanwhile: call it when handing out a
// continue token.
func (s Snapshot) Keep() { s.table.keep(s.revision, s.entries) }
