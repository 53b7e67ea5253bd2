package kind

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Deletable returns the resources whose objects are stored and can be deleted,
// of all kinds that keep accepts.
func (c *Catalogue) Deletable(keep func(*Kind) bool) (out []schema.GroupResource) {
	for _, k := range c.All() {
		if !k.Virtual && (len(k.Verbs) == 0 || slices.Contains(k.Verbs, "delete")) && keep(k) {
			out = append(out, k.GroupResource())
		}
	}
	return out
}

// Namespaced accepts kinds whose objects live in namespaces.
func Namespaced(k *Kind) bool { return !k.ClusterScoped }
