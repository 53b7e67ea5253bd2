package auth

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

const all = "*"

// Allows reports whether one rule allows what a asks for.
func Allows(a Attributes, r *rbacv1.PolicyRule) bool {
	if !oneOf(r.Verbs, a.Verb) {
		return false
	}
	if a.Path != "" {
		return slices.ContainsFunc(r.NonResourceURLs, func(p string) bool { return pathMatches(p, a.Path) })
	}
	return oneOf(r.APIGroups, a.Group) &&
		slices.ContainsFunc(r.Resources, func(p string) bool { return resourceMatches(p, a.Resource, a.Subresource) }) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

// oneOf reports whether list names s or everything.
func oneOf(list []string, s string) bool {
	return slices.Contains(list, all) || slices.Contains(list, s)
}

func pathMatches(pattern, path string) bool {
	if pattern == all || pattern == path {
		return true
	}
	prefix, ok := strings.CutSuffix(pattern, all)
	return ok && strings.HasPrefix(path, prefix)
}

// resourceMatches knows "*", "pods", "pods/log" and "*/scale".
func resourceMatches(pattern, resource, sub string) bool {
	if pattern == all {
		return true
	}
	r, s, _ := strings.Cut(pattern, "/")
	return s == sub && (r == resource || r == all && sub != "")
}

// Covers reports whether owned allows all that wanted allows, and returns the
// parts of wanted that it does not, split into single verbs, groups, resources
// and names. It may answer no where several owned rules together would
// cover a wildcard, never yes wrongly.
func Covers(owned, wanted []rbacv1.PolicyRule) (bool, []rbacv1.PolicyRule) {
	var missing []rbacv1.PolicyRule
	for i := range wanted {
		for _, atom := range atoms(&wanted[i]) {
			if !slices.ContainsFunc(owned, func(o rbacv1.PolicyRule) bool { return coversAtom(&o, &atom) }) {
				missing = append(missing, atom)
			}
		}
	}
	return len(missing) == 0, missing
}

// atoms splits a rule. A rule with resources and paths is both.
func atoms(r *rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, verb := range r.Verbs {
		for _, path := range r.NonResourceURLs {
			out = append(out, rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{path}})
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				atom := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}
				if len(r.ResourceNames) == 0 {
					out = append(out, atom)
				}
				for _, name := range r.ResourceNames {
					named := atom
					named.ResourceNames = []string{name}
					out = append(out, named)
				}
			}
		}
	}
	return out
}

func coversAtom(o, atom *rbacv1.PolicyRule) bool {
	if !oneOf(o.Verbs, atom.Verbs[0]) {
		return false
	}
	if len(atom.NonResourceURLs) > 0 {
		return slices.ContainsFunc(o.NonResourceURLs, func(p string) bool { return pathMatches(p, atom.NonResourceURLs[0]) })
	}
	want := atom.Resources[0]
	resource, sub, _ := strings.Cut(want, "/")
	return oneOf(o.APIGroups, atom.APIGroups[0]) &&
		slices.ContainsFunc(o.Resources, func(p string) bool {
			return p == want || want != all && resourceMatches(p, resource, sub)
		}) &&
		(len(o.ResourceNames) == 0 || len(atom.ResourceNames) > 0 && slices.Contains(o.ResourceNames, atom.ResourceNames[0]))
}

// compact joins atoms that differ in the verb only.
func compact(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, r := range rules {
		i := slices.IndexFunc(out, func(o rbacv1.PolicyRule) bool {
			return slices.Equal(o.APIGroups, r.APIGroups) && slices.Equal(o.Resources, r.Resources) &&
				slices.Equal(o.ResourceNames, r.ResourceNames) && slices.Equal(o.NonResourceURLs, r.NonResourceURLs)
		})
		if i < 0 {
			r.Verbs = slices.Clone(r.Verbs)
			out = append(out, r)
			continue
		}
		if !slices.Contains(out[i].Verbs, r.Verbs[0]) {
			out[i].Verbs = append(out[i].Verbs, r.Verbs[0])
		}
	}
	return out
}

// ruleText is a rule as upstream prints it in refusals.
func ruleText(r *rbacv1.PolicyRule) string {
	var parts []string
	add := func(name string, values []string) {
		if len(values) > 0 {
			parts = append(parts, fmt.Sprintf(`%s:[%s]`, name, quoted(values)))
		}
	}
	add("APIGroups", r.APIGroups)
	add("Resources", r.Resources)
	add("NonResourceURLs", r.NonResourceURLs)
	add("ResourceNames", r.ResourceNames)
	add("Verbs", r.Verbs)
	return "{" + strings.Join(parts, ", ") + "}"
}

func quoted(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = fmt.Sprintf("%q", v)
	}
	return strings.Join(q, " ")
}
