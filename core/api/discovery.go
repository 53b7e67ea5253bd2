package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/kind"
)

// serveDiscovery answers /api, /apis and what is below them.
func (s *Server) serveDiscovery(c *call) error {
	if err := readOnly(c); err != nil {
		return err
	}
	parts := strings.Split(strings.Trim(c.route.path, "/"), "/")
	if len(parts) == 1 {
		f, err := negotiate(c.r, func(as, group, version string) bool {
			return as == "APIGroupDiscoveryList" && group == "apidiscovery.k8s.io" && version == "v2"
		})
		if err != nil && parts[0] == "apis" {
			return onlyAccepted()
		}
		if err != nil {
			return err
		}
		if f.as != "" {
			return s.serveAggregated(c, f, parts[0] == "api")
		}
	}
	if len(parts) == 2 && parts[0] == "apis" {
		if _, err := negotiate(c.r, nil); err != nil {
			return onlyAccepted()
		}
	}
	o := s.discovery(parts, c)
	if o == nil && parts[0] == "apis" && !slices.ContainsFunc(s.groups(), func(g kind.Group) bool { return g.Name == parts[1] }) {
		return errNoPage
	}
	if o == nil {
		return pathNotFound()
	}
	return s.respondObject(c, nil, http.StatusOK, o)
}

// onlyAccepted is upstream's other wording of 406.
func onlyAccepted() error {
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, "only the following media types are accepted: "+acceptedMedia)
}

// groups is what discovery shows: the catalogue's groups, and after them the
// retired versions. Those must be there for kubectl to accept old manifests;
// they offer single objects only, so that tools which walk over everything
// see each object once.
func (s *Server) groups() []kind.Group {
	groups := s.kinds.Groups()
	for _, k := range s.kinds.All() {
		for i := range k.Versions {
			if v := &k.Versions[i]; v.Retired != "" {
				groups = addRetired(groups, kind.Match{Kind: k, Version: v})
			}
		}
	}
	return groups
}

func addRetired(groups []kind.Group, m kind.Match) []kind.Group {
	gvk := m.GVK()
	g := slices.IndexFunc(groups, func(g kind.Group) bool { return g.Name == gvk.Group })
	if g < 0 {
		g = len(groups)
		groups = append(groups, kind.Group{Name: gvk.Group})
	}
	versions := groups[g].Versions
	v := slices.IndexFunc(versions, func(v kind.GroupVersion) bool { return v.Version == gvk.Version })
	if v < 0 {
		v = len(versions)
		versions = append(versions, kind.GroupVersion{Version: gvk.Version})
	}
	versions[v].Resources = append(versions[v].Resources, m)
	groups[g].Versions = versions
	return groups
}

// shown is how discovery presents a kind under one of its versions.
func shown(m kind.Match) (verbs, short, categories []string, subs []kind.Subresource) {
	k := m.Kind
	verbs = slices.Clone(verbsOf(k))
	if m.Version != nil && m.Version.Retired != "" {
		return slices.DeleteFunc(verbs, func(v string) bool { return v == "list" || v == "watch" || v == "deletecollection" }), nil, nil, nil
	}
	subs = slices.Clone(k.Subresources)
	slices.SortFunc(subs, func(a, b kind.Subresource) int { return strings.Compare(a.Name, b.Name) })
	return verbs, k.ShortNames, k.Categories, subs
}

// discovery returns the document at a path, or nil.
func (s *Server) discovery(parts []string, c *call) runtime.Object {
	groups := s.groups()
	switch {
	case parts[0] == "api" && len(parts) == 1:
		v := &metav1.APIVersions{Versions: []string{"v1"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{
			{ClientCIDR: "0.0.0.0/0", ServerAddress: c.r.Host},
		}}
		v.Kind = "APIVersions"
		return v
	case parts[0] == "apis" && len(parts) == 1:
		list := &metav1.APIGroupList{Groups: []metav1.APIGroup{}}
		list.Kind, list.APIVersion = "APIGroupList", "v1"
		for _, g := range groups {
			if g.Name != "" {
				list.Groups = append(list.Groups, apiGroup(g))
			}
		}
		return list
	case parts[0] == "apis" && len(parts) == 2:
		for _, g := range groups {
			if g.Name == parts[1] && g.Name != "" {
				out := apiGroup(g)
				out.Kind, out.APIVersion = "APIGroup", "v1"
				return &out
			}
		}
		return nil
	}
	group, ver := "", parts[len(parts)-1]
	switch {
	case parts[0] == "api" && len(parts) == 2:
	case parts[0] == "apis" && len(parts) == 3:
		group = parts[1]
	default:
		return nil
	}
	for _, g := range groups {
		if g.Name != group || parts[0] == "apis" && group == "" {
			continue
		}
		for _, v := range g.Versions {
			if v.Version == ver {
				return apiResources(group, v)
			}
		}
	}
	return nil
}

func apiGroup(g kind.Group) metav1.APIGroup {
	out := metav1.APIGroup{Name: g.Name}
	for _, v := range g.Versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: groupVersion(g.Name, v.Version), Version: v.Version})
	}
	if len(out.Versions) > 0 {
		out.PreferredVersion = out.Versions[0]
	}
	return out
}

func groupVersion(group, version string) string {
	if group == "" {
		return version
	}
	return group + "/" + version
}

// storageHash changes when the way objects are stored does.
func storageHash(k *kind.Kind) string {
	sum := sha256.Sum256([]byte(k.Hub.Group + "/" + k.Hub.Version + "/" + k.Hub.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

func apiResources(group string, v kind.GroupVersion) *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: groupVersion(group, v.Version), APIResources: []metav1.APIResource{}}
	list.Kind = "APIResourceList"
	if group != "" {
		list.APIVersion = "v1"
	}
	for _, m := range v.Resources {
		k := m.Kind
		verbs, short, categories, subs := shown(m)
		r := metav1.APIResource{
			Name: k.Resource, SingularName: k.Singular, Namespaced: !k.ClusterScoped, Kind: m.GVK().Kind,
			Verbs: verbs, ShortNames: short, Categories: categories,
		}
		if !k.Virtual {
			r.StorageVersionHash = storageHash(k)
		}
		list.APIResources = append(list.APIResources, r)
		for _, sub := range subs {
			sr := metav1.APIResource{Name: k.Resource + "/" + sub.Name, Namespaced: !k.ClusterScoped, Kind: m.GVK().Kind, Verbs: sub.Verbs}
			if !sub.Body.Empty() {
				sr.Kind = sub.Body.Kind
				if sub.Body.Group != group || sub.Body.Version != v.Version {
					sr.Group, sr.Version = sub.Body.Group, sub.Body.Version
				}
			}
			list.APIResources = append(list.APIResources, sr)
		}
	}
	return list
}

// serveAggregated answers the whole of discovery in one document, with an ETag.
func (s *Server) serveAggregated(c *call, f format, core bool) error {
	list := &apidiscoveryv2.APIGroupDiscoveryList{Items: []apidiscoveryv2.APIGroupDiscovery{}}
	list.Kind, list.APIVersion = "APIGroupDiscoveryList", "apidiscovery.k8s.io/v2"
	for _, g := range s.groups() {
		if (g.Name == "") == core {
			list.Items = append(list.Items, groupDiscovery(g))
		}
	}
	tag, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("cannot encode discovery: %w", err)
	}
	sum := sha256.Sum256(tag)
	etag := `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`
	h := c.w.Header()
	h.Set("ETag", etag)
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", "public")
	if c.r.Header.Get("If-None-Match") == etag {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	ct := f.media + ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	return s.writeObject(s.body(c, http.StatusOK, ct), f, list)
}

func groupDiscovery(g kind.Group) apidiscoveryv2.APIGroupDiscovery {
	out := apidiscoveryv2.APIGroupDiscovery{}
	out.Name = g.Name
	for _, v := range g.Versions {
		vd := apidiscoveryv2.APIVersionDiscovery{Version: v.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
		for _, m := range v.Resources {
			vd.Resources = append(vd.Resources, resourceDiscovery(g.Name, v.Version, m))
		}
		out.Versions = append(out.Versions, vd)
	}
	return out
}

// responseKind leaves group and version out where they are those of the
// resource, as upstream does.
func responseKind(group, ver string, gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	if gvk.Group == group && gvk.Version == ver {
		return &metav1.GroupVersionKind{Kind: gvk.Kind}
	}
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}

func resourceDiscovery(group, ver string, m kind.Match) apidiscoveryv2.APIResourceDiscovery {
	k := m.Kind
	scope := apidiscoveryv2.ScopeNamespace
	if k.ClusterScoped {
		scope = apidiscoveryv2.ScopeCluster
	}
	verbs, short, categories, subs := shown(m)
	r := apidiscoveryv2.APIResourceDiscovery{
		Resource: k.Resource, Scope: scope, SingularResource: k.Singular, Verbs: verbs,
		ShortNames: short, Categories: categories,
		ResponseKind: responseKind(group, ver, m.GVK()),
	}
	for _, sub := range subs {
		sd := apidiscoveryv2.APISubresourceDiscovery{
			Subresource: sub.Name, Verbs: sub.Verbs,
			ResponseKind: responseKind(group, ver, m.GVK()),
		}
		if !sub.Body.Empty() {
			sd.ResponseKind = responseKind(group, ver, sub.Body)
		}
		r.Subresources = append(r.Subresources, sd)
	}
	return r
}
