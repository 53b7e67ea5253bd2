package flowcontrol

import (
	"cmp"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/auth"
)

// flowSchema is a FlowSchema made ready for matching.
type flowSchema struct {
	name       string
	uid        types.UID
	precedence int32
	// byUser and byNamespace tell flows apart; neither: all is one flow.
	byUser, byNamespace bool
	rules               []rule
	level               *level
	exempt              bool
	most                int // seats of the widest request
	series              *series
	// header values, shared by all answers
	uidHeader, levelHeader []string
}

// rule matches who asks and what is asked for.
type rule struct {
	users, groups subjects
	// accounts are prefixes of user names, up to the separator after the
	// namespace: all service accounts of it.
	accounts  []string
	resources []resourceRule
	paths     []pathRule
}

// subjects is a set of names, or everybody.
type subjects struct {
	all   bool
	names []string
}

type resourceRule struct {
	verbs, groups, resources, namespaces subjects
	cluster                              bool
}

type pathRule struct {
	verbs    subjects
	all      bool
	exact    []string
	prefixes []string
}

// set reads a list in which a single "*" means all.
func set(names []string) subjects {
	if len(names) == 1 && names[0] == "*" {
		return subjects{all: true}
	}
	return subjects{names: names}
}

func (s *subjects) has(name string) bool { return s.all || slices.Contains(s.names, name) }

func compile(f *flowcontrolv1.FlowSchema, l *level) *flowSchema {
	s := &flowSchema{
		name: f.Name, uid: f.UID, precedence: f.Spec.MatchingPrecedence, level: l, exempt: l.exempt, most: l.most,
		uidHeader: []string{string(f.UID)}, levelHeader: []string{l.uid},
	}
	if m := f.Spec.DistinguisherMethod; m != nil {
		s.byUser = m.Type == flowcontrolv1.FlowDistinguisherMethodByUserType
		s.byNamespace = m.Type == flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	}
	for i := range f.Spec.Rules {
		s.rules = append(s.rules, compileRule(&f.Spec.Rules[i]))
	}
	return s
}

func compileRule(p *flowcontrolv1.PolicyRulesWithSubjects) rule {
	var r rule
	add := func(to *subjects, name string) {
		to.all = to.all || name == flowcontrolv1.NameAll
		to.names = append(to.names, name)
	}
	for _, s := range p.Subjects {
		switch {
		case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
			add(&r.users, s.User.Name)
		case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
			add(&r.groups, s.Group.Name)
		case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
			if s.ServiceAccount.Name == flowcontrolv1.NameAll {
				r.accounts = append(r.accounts, auth.ServiceAccountName(s.ServiceAccount.Namespace, ""))
			} else {
				r.users.names = append(r.users.names, auth.ServiceAccountName(s.ServiceAccount.Namespace, s.ServiceAccount.Name))
			}
		}
	}
	for _, x := range p.ResourceRules {
		r.resources = append(r.resources, resourceRule{
			verbs: set(x.Verbs), groups: set(x.APIGroups), resources: set(x.Resources), namespaces: set(x.Namespaces), cluster: x.ClusterScope,
		})
	}
	for _, x := range p.NonResourceRules {
		pr := pathRule{verbs: set(x.Verbs)}
		for _, u := range x.NonResourceURLs {
			if u == flowcontrolv1.NonResourceAll {
				pr.all = true
				continue
			}
			pr.exact = append(pr.exact, u)
			pr.prefixes = append(pr.prefixes, strings.TrimSuffix(strings.TrimSuffix(u, "*"), "/")+"/")
		}
		r.paths = append(r.paths, pr)
	}
	return r
}

func (s *flowSchema) matches(r *Request) bool {
	for i := range s.rules {
		if s.rules[i].matches(r) {
			return true
		}
	}
	return false
}

func (p *rule) matches(r *Request) bool {
	if !p.concerns(r.User) {
		return false
	}
	if r.Path != "" {
		for i := range p.paths {
			if p.paths[i].matches(r) {
				return true
			}
		}
		return false
	}
	for i := range p.resources {
		if p.resources[i].matches(r) {
			return true
		}
	}
	return false
}

func (p *rule) concerns(u *auth.User) bool {
	if p.users.has(u.Name) || p.groups.all {
		return true
	}
	for _, g := range p.groups.names {
		if slices.Contains(u.Groups, g) {
			return true
		}
	}
	for _, a := range p.accounts {
		if strings.HasPrefix(u.Name, a) {
			return true
		}
	}
	return false
}

func (p *resourceRule) matches(r *Request) bool {
	if !p.verbs.has(r.Verb) || !p.groups.has(r.Group) || !p.names(r) {
		return false
	}
	if r.Namespace == "" {
		return p.cluster
	}
	return p.namespaces.has(r.Namespace)
}

// names compares "pods" or "pods/status" without building the latter.
func (p *resourceRule) names(r *Request) bool {
	if p.resources.all || r.Subresource == "" {
		return p.resources.has(r.Resource)
	}
	for _, n := range p.resources.names {
		if len(n) == len(r.Resource)+1+len(r.Subresource) && n[len(r.Resource)] == '/' &&
			strings.HasPrefix(n, r.Resource) && strings.HasSuffix(n, r.Subresource) {
			return true
		}
	}
	return false
}

func (p *pathRule) matches(r *Request) bool {
	if !p.verbs.has(r.Verb) {
		return false
	}
	if p.all || slices.Contains(p.exact, r.Path) {
		return true
	}
	for _, prefix := range p.prefixes {
		if strings.HasPrefix(r.Path, prefix) {
			return true
		}
	}
	return false
}

// order is that of matching.
func order(a, b *flowSchema) int {
	return cmp.Or(cmp.Compare(a.precedence, b.precedence), cmp.Compare(a.name, b.name))
}

// table is a configuration as a whole. It is not changed once it is in use.
type table struct {
	schemas  []*flowSchema // in the order of matching
	catchAll *flowSchema
	levels   map[string]*level
}

// classify finds the schema of a request. There is always one: whom none
// matches (which takes a user in no group) the last one takes.
func (t *table) classify(r *Request) *flowSchema {
	for _, s := range t.schemas {
		if s.matches(r) {
			return s
		}
	}
	return t.catchAll
}

// flow tells the flow of a request from others of its schema.
func (s *flowSchema) flow(r *Request) string {
	switch {
	case s.byUser:
		return r.User.Name
	case s.byNamespace:
		return r.Namespace
	}
	return ""
}
