package api

import (
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// owners keeps one field manager per kind, version and subresource.
type owners struct {
	conv     convertor
	typed    managedfields.TypeConverter
	custom   managedfields.TypeConverter
	managers sync.Map // ownerKey → *managedfields.FieldManager
}

type ownerKey struct {
	kind *kind.Kind
	gvk  schema.GroupVersionKind
	sub  string
}

func newOwners(cat *kind.Catalogue) *owners {
	return &owners{
		conv:   convertor{cat},
		typed:  &trusting{TypeConverter: applyconfigurations.NewTypeConverter(cat.Scheme())},
		custom: managedfields.NewDeducedTypeConverter(),
	}
}

func (o *owners) manager(v version, sub string) (*managedfields.FieldManager, error) {
	key := ownerKey{v.kind, v.gvk, sub}
	if m, ok := o.managers.Load(key); ok {
		return m.(*managedfields.FieldManager), nil
	}
	var m *managedfields.FieldManager
	var err error
	reset := resetFields(v.kind, sub)
	if _, custom := v.empty().(runtime.Unstructured); custom {
		m, err = managedfields.NewDefaultCRDFieldManager(o.custom, o.conv, o.conv, o.conv, v.gvk, v.kind.Hub.GroupVersion(), sub, reset)
	} else if applyconfigurations.ForKind(v.gvk) == nil || v.gvk.Kind == "Scale" {
		// A type that client-go does not know (APIService) or cannot apply by
		// itself (Scale) has no apply schema.
		m, err = managedfields.NewDefaultFieldManager(o.custom, o.conv, o.conv, o.conv, v.gvk, v.kind.Hub.GroupVersion(), sub, reset)
	} else {
		m, err = managedfields.NewDefaultFieldManager(o.typed, o.conv, o.conv, o.conv, v.gvk, v.kind.Hub.GroupVersion(), sub, reset)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot track field ownership of %s: %w", v.gvk, err)
	}
	actual, _ := o.managers.LoadOrStore(key, m)
	return actual.(*managedfields.FieldManager), nil
}

// resetFields are those a write through the given subresource cannot change
// and so does not own.
func resetFields(k *kind.Kind, sub string) map[fieldpath.APIVersion]fieldpath.Filter {
	hasStatus := slices.ContainsFunc(k.Subresources, func(s kind.Subresource) bool { return s.Name == "status" })
	var paths []fieldpath.Path
	switch {
	case sub == "status":
		paths = append(paths, fieldpath.MakePathOrDie("spec"))
	case sub == "" && hasStatus:
		paths = append(paths, fieldpath.MakePathOrDie("status"))
	default:
		return nil
	}
	filter := fieldpath.NewExcludeSetFilter(fieldpath.NewSet(paths...))
	all := map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(k.Hub.GroupVersion().String()): filter}
	for _, v := range k.Versions {
		all[fieldpath.APIVersion(v.GroupVersion().String())] = filter
	}
	return all
}

// own records manager as the owner of what next changes relative to live.
// A failure keeps live's managedFields.
func (s *Server) own(q *request, live, next client.Object, manager string) client.Object {
	out, err := s.owners.update(q.as, q.subName(), live, next, manager)
	if err == nil {
		return out
	}
	s.tel.Log.Warn("field ownership not tracked", "kind", q.as.gvk.String(), "name", client.KeyOf(next).String(), "error", err)
	next.SetManagedFields(slices.Clone(live.GetManagedFields()))
	return next
}

// update returns next with manager as the owner of what it changes in live.
func (o *owners) update(v version, sub string, live, next client.Object, manager string) (client.Object, error) {
	m, err := o.manager(v, sub)
	if err != nil {
		return nil, err
	}
	from, to := live, next
	var d difference
	reduced := false
	if v.isHub() {
		d, reduced = differing(live, next, v.gvk.GroupVersion())
	}
	var aside []metav1.ManagedFieldsEntry
	if reduced {
		from, to = d.live, d.next
		aside = d.setAside(manager, sub)
	}
	out, err := m.Update(from, to, manager)
	if err != nil {
		return nil, err
	}
	owned, ok := out.(client.Object)
	switch {
	case !ok:
		return nil, fmt.Errorf("cannot use %T as an object", out)
	case !reduced:
		return owned, nil
	case len(aside) == 0:
		next.SetManagedFields(owned.GetManagedFields())
	default:
		all := append(aside, owned.GetManagedFields()...)
		slices.SortFunc(all, byManager)
		next.SetManagedFields(all)
	}
	return next, nil
}

// dropManaged removes entries a client may not send: validated later, but
// undecodable ones would otherwise hide the live ones.
func dropManaged(o metav1.Object) {
	if !resetsOwners(o.GetManagedFields()) && managedfields.ValidateManagedFields(o.GetManagedFields()) != nil {
		o.SetManagedFields(nil)
	}
}
