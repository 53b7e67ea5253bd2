package kind

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// Match is a kind as found under one of its versions. A nil Version is the hub.
type Match struct {
	Kind    *Kind
	Version *Version
}

// GVK is the group, version and kind under which the match was found.
func (m Match) GVK() schema.GroupVersionKind {
	if m.Version != nil {
		return m.Version.GroupVersionKind
	}
	return m.Kind.Hub
}

// Group is one API group as discovery lists it.
type Group struct {
	// Name is empty for the core group.
	Name string
	// Versions are the served ones, the preferred first.
	Versions []GroupVersion
}

// GroupVersion is one served version of a group with its resources by name.
type GroupVersion struct {
	Version   string
	Resources []Match
}

// Catalogue finds kinds. It is safe for concurrent use.
type Catalogue struct {
	scheme *runtime.Scheme

	mu sync.RWMutex
	// The fields below are guarded by mu. order holds kinds with a
	// resource, in the order in which they were added.
	order           []*Kind
	byGroupResource map[schema.GroupResource]*Kind
	byResource      map[schema.GroupVersionResource]Match
	byKind          map[schema.GroupVersionKind]Match
	// generation counts changes; changed is closed at the next one.
	generation uint64
	changed    chan struct{}
}

// NewCatalogue returns an empty catalogue whose typed kinds are those of s.
func NewCatalogue(s *runtime.Scheme) *Catalogue {
	return &Catalogue{
		scheme:          s,
		byGroupResource: map[schema.GroupResource]*Kind{},
		byResource:      map[schema.GroupVersionResource]Match{},
		byKind:          map[schema.GroupVersionKind]Match{},
		changed:         make(chan struct{}),
	}
}

// Changes returns how often the catalogue has changed and a channel that is
// closed when it changes again.
func (c *Catalogue) Changes() (generation uint64, next <-chan struct{}) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.generation, c.changed
}

// touch tells those who wait. The caller holds mu.
func (c *Catalogue) touch() {
	c.generation++
	close(c.changed)
	c.changed = make(chan struct{})
}

// builtinScheme knows client-go's types and those of kinds that it lacks.
func builtinScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiregistrationv1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(fmt.Sprintf("cannot register the built-in types: %v", err)) // the libraries contradict each other
		}
	}
	return s
}

// Builtin returns a catalogue of every built-in kind.
func Builtin() *Catalogue {
	c := NewCatalogue(builtinScheme())
	for _, k := range builtin() {
		c.Add(k)
	}
	return c
}

// Scheme knows the Go types of the catalogue's typed kinds.
func (c *Catalogue) Scheme() *runtime.Scheme { return c.scheme }

// Add makes a kind known, in the place of one with the same group and resource
// (or, for kinds without a resource, of the same name).
func (c *Catalogue) Add(k *Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := len(c.order)
	if old := c.byKind[k.Hub].Kind; old != nil && old.Resource == k.Resource {
		at = c.remove(old)
	} else if old := c.byGroupResource[k.GroupResource()]; k.Resource != "" && old != nil {
		at = c.remove(old)
	}
	if k.Resource != "" {
		c.order = slices.Insert(c.order, min(at, len(c.order)), k)
	}
	c.index(k, Match{Kind: k})
	for i := range k.Versions {
		c.index(k, Match{Kind: k, Version: &k.Versions[i]})
	}
	c.touch()
}

func (c *Catalogue) index(k *Kind, m Match) {
	gvk := m.GVK()
	c.byKind[gvk] = m
	if k.Resource != "" {
		gvr := gvk.GroupVersion().WithResource(k.Resource)
		c.byResource[gvr] = m
		c.byGroupResource[gvr.GroupResource()] = k
	}
}

// Remove forgets the kind of a resource, under all its versions.
func (c *Catalogue) Remove(gr schema.GroupResource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.byGroupResource[gr]; k != nil {
		c.remove(k)
		c.touch()
	}
}

// remove returns the place which the kind had in the order.
func (c *Catalogue) remove(k *Kind) int {
	gvks := []schema.GroupVersionKind{k.Hub}
	for _, v := range k.Versions {
		gvks = append(gvks, v.GroupVersionKind)
	}
	for _, gvk := range gvks {
		delete(c.byKind, gvk)
		if k.Resource != "" {
			gvr := gvk.GroupVersion().WithResource(k.Resource)
			delete(c.byResource, gvr)
			delete(c.byGroupResource, gvr.GroupResource())
		}
	}
	at := slices.Index(c.order, k)
	if at < 0 {
		return len(c.order)
	}
	c.order = slices.Delete(slices.Clone(c.order), at, at+1)
	return at
}

// ByGroupResource finds a kind by the group and plural of any of its versions.
func (c *Catalogue) ByGroupResource(gr schema.GroupResource) (*Kind, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	k, ok := c.byGroupResource[gr]
	return k, ok
}

// ByResource finds a kind as a path names it, retired versions included.
func (c *Catalogue) ByResource(gvr schema.GroupVersionResource) (*Kind, *Version, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, ok := c.byResource[gvr]
	return m.Kind, m.Version, ok
}

// ByKind finds a kind as a manifest names it, retired versions and kinds that
// are only bodies of subresources included.
func (c *Catalogue) ByKind(gvk schema.GroupVersionKind) (*Kind, *Version, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, ok := c.byKind[gvk]
	return m.Kind, m.Version, ok
}

// Of finds the kind of an object by its Go type or, for unstructured objects,
// by the apiVersion and kind that it carries.
func (c *Catalogue) Of(obj runtime.Object) (*Kind, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if _, ok := obj.(runtime.Unstructured); !ok {
		gvks, _, err := c.scheme.ObjectKinds(obj)
		if err != nil {
			return nil, fmt.Errorf("cannot find the kind of %T: %w", obj, err)
		}
		gvk = gvks[0]
	}
	k, _, ok := c.ByKind(gvk)
	if !ok {
		return nil, fmt.Errorf("cannot find kind %q: not in the catalogue", gvk)
	}
	return k, nil
}

// All returns every kind that has a resource, virtual ones included, in the
// order of groups as discovery has it.
func (c *Catalogue) All() []*Kind {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.order)
}

// groupOrder is the order in which upstream's discovery lists its groups;
// others follow by name.
func groupOrder() []string {
	return []string{
		"", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
		"autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io", "policy",
		"rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io",
		"apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
		"discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io", "storagemigration.k8s.io",
	}
}

// Groups returns what discovery shows: retired versions are left out.
func (c *Catalogue) Groups() []Group {
	byName := map[string]map[string][]Match{}
	add := func(m Match) {
		gvk := m.GVK()
		if byName[gvk.Group] == nil {
			byName[gvk.Group] = map[string][]Match{}
		}
		byName[gvk.Group][gvk.Version] = append(byName[gvk.Group][gvk.Version], m)
	}
	for _, k := range c.All() {
		add(Match{Kind: k})
		for i := range k.Versions {
			if k.Versions[i].Retired == "" {
				add(Match{Kind: k, Version: &k.Versions[i]})
			}
		}
	}

	var groups []Group
	for name, versions := range byName {
		g := Group{Name: name}
		for v, ms := range versions {
			slices.SortFunc(ms, func(a, b Match) int { return cmp.Compare(a.Kind.Resource, b.Kind.Resource) })
			g.Versions = append(g.Versions, GroupVersion{Version: v, Resources: ms})
		}
		slices.SortFunc(g.Versions, func(a, b GroupVersion) int {
			return kubeversion.CompareKubeAwareVersionStrings(b.Version, a.Version)
		})
		groups = append(groups, g)
	}
	order := groupOrder()
	place := func(g Group) int {
		if i := slices.Index(order, g.Name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.Name, b.Name))
	})
	return groups
}
