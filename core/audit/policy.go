package audit

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/auth"
)

// Level says how much of a request is recorded.
type Level string

// The levels, each with all that the one before has.
const (
	None            Level = "None"
	Metadata        Level = "Metadata"
	Request         Level = "Request"         // and the request's body
	RequestResponse Level = "RequestResponse" // and the response's body
)

// Stage is when in a request's life an event is made.
type Stage string

// The stages. ResponseStarted is made for long-running requests only.
const (
	RequestReceived  Stage = "RequestReceived"
	ResponseStarted  Stage = "ResponseStarted"
	ResponseComplete Stage = "ResponseComplete"
	Panic            Stage = "Panic"
)

// Policy is kind Policy of audit.k8s.io/v1.
type Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Rules             []Rule  `json:"rules"`
	OmitStages        []Stage `json:"omitStages,omitempty"`
	OmitManagedFields bool    `json:"omitManagedFields,omitempty"`
}

// Rule decides for the requests that match all of its fields; an empty field
// matches everything.
type Rule struct {
	Level      Level       `json:"level"`
	Users      []string    `json:"users,omitempty"`
	UserGroups []string    `json:"userGroups,omitempty"`
	Verbs      []string    `json:"verbs,omitempty"`
	Resources  []Resources `json:"resources,omitempty"`
	// Namespaces: "" is what has none.
	Namespaces []string `json:"namespaces,omitempty"`
	// NonResourceURLs are paths, "*" at the end for all that begin so.
	NonResourceURLs   []string `json:"nonResourceURLs,omitempty"`
	OmitStages        []Stage  `json:"omitStages,omitempty"`
	OmitManagedFields *bool    `json:"omitManagedFields,omitempty"`
}

// Resources are those of one group; "*" is every group.
type Resources struct {
	Group string `json:"group,omitempty"`
	// Resources are "pods", "pods/log", "pods/*", "*/scale" or "*"; none
	// means all.
	Resources     []string `json:"resources,omitempty"`
	ResourceNames []string `json:"resourceNames,omitempty"`
}

// DefaultPolicy records every request at level Metadata when it is over, and
// long-running ones when they begin, too.
func DefaultPolicy() *Policy {
	return &Policy{Rules: []Rule{{Level: Metadata}}, OmitStages: []Stage{RequestReceived}}
}

// ReadPolicy reads a policy file, YAML or JSON.
func ReadPolicy(path string) (*Policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the audit policy: %w", err)
	}
	p, err := ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use the audit policy %s: %w", path, err)
	}
	return p, nil
}

// ParsePolicy reads and checks a policy.
func ParsePolicy(text []byte) (*Policy, error) {
	p := &Policy{}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		return nil, err
	}
	if p.APIVersion != "audit.k8s.io/v1" || p.Kind != "Policy" {
		return nil, fmt.Errorf("it is a %q of %q, not a Policy of audit.k8s.io/v1", p.Kind, p.APIVersion)
	}
	errs := checkStages(p.OmitStages, field.NewPath("omitStages"))
	for i := range p.Rules {
		errs = append(errs, p.Rules[i].check(field.NewPath("rules").Index(i))...)
	}
	if len(p.Rules) == 0 {
		errs = append(errs, field.Required(field.NewPath("rules"), "a policy without rules records nothing"))
	}
	return p, errs.ToAggregate()
}

func checkStages(stages []Stage, at *field.Path) (errs field.ErrorList) {
	known := []Stage{RequestReceived, ResponseStarted, ResponseComplete, Panic}
	for i, s := range stages {
		if !slices.Contains(known, s) {
			errs = append(errs, field.NotSupported(at.Index(i), s, known))
		}
	}
	return errs
}

func (r *Rule) check(at *field.Path) field.ErrorList {
	errs := checkStages(r.OmitStages, at.Child("omitStages"))
	switch r.Level {
	case None, Metadata, Request, RequestResponse:
	case "":
		errs = append(errs, field.Required(at.Child("level"), ""))
	default:
		errs = append(errs, field.NotSupported(at.Child("level"), r.Level, []Level{None, Metadata, Request, RequestResponse}))
	}
	for i, u := range r.NonResourceURLs {
		in := at.Child("nonResourceURLs").Index(i)
		switch star := strings.IndexByte(u, '*'); {
		case u == "*":
		case !strings.HasPrefix(u, "/"):
			errs = append(errs, field.Invalid(in, u, "non-resource URL rules must begin with a '/' character"))
		case star >= 0 && star != len(u)-1:
			errs = append(errs, field.Invalid(in, u, "non-resource URL wildcards '*' must be the final character of the rule"))
		}
	}
	if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
		errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
	}
	for i, g := range r.Resources {
		in := at.Child("resources").Index(i)
		if g.Group != "" && g.Group != "*" {
			for _, msg := range validation.NameIsDNSSubdomain(g.Group, false) {
				errs = append(errs, field.Invalid(in.Child("group"), g.Group, msg))
			}
		}
		if len(g.ResourceNames) > 0 && len(g.Resources) == 0 {
			errs = append(errs, field.Invalid(in.Child("resourceNames"), g.ResourceNames, "using resourceNames requires at least one resource"))
		}
	}
	return errs
}

// verdict is what a policy says about a request.
type verdict struct {
	level       Level
	omit        []Stage // of the policy and of the rule
	omitMore    []Stage
	omitManaged bool
}

func (v *verdict) omits(s Stage) bool {
	return v.level == None || slices.Contains(v.omit, s) || slices.Contains(v.omitMore, s)
}

// decide finds the first rule that matches.
func (p *Policy) decide(a *auth.Attributes) verdict {
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(a) {
			continue
		}
		v := verdict{level: r.Level, omit: p.OmitStages, omitMore: r.OmitStages, omitManaged: p.OmitManagedFields}
		if r.OmitManagedFields != nil {
			v.omitManaged = *r.OmitManagedFields
		}
		return v
	}
	return verdict{level: None}
}

func (r *Rule) matches(a *auth.Attributes) bool {
	if len(r.Users) > 0 && (a.User == nil || !slices.Contains(r.Users, a.User.Name)) {
		return false
	}
	if len(r.UserGroups) > 0 && (a.User == nil || !slices.ContainsFunc(a.User.Groups, func(g string) bool { return slices.Contains(r.UserGroups, g) })) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, a.Verb) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return a.Path == "" && r.matchesResource(a)
	case len(r.NonResourceURLs) > 0:
		return a.Path != "" && slices.ContainsFunc(r.NonResourceURLs, func(u string) bool {
			prefix, star := strings.CutSuffix(u, "*")
			return u == a.Path || star && strings.HasPrefix(a.Path, prefix)
		})
	}
	return true
}

func (r *Rule) matchesResource(a *auth.Attributes) bool {
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, a.Namespace) {
		return false
	}
	if len(r.Resources) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Resources, func(g Resources) bool {
		if g.Group != a.Group && g.Group != "*" || len(g.ResourceNames) > 0 && !slices.Contains(g.ResourceNames, a.Name) {
			return false
		}
		return len(g.Resources) == 0 || slices.ContainsFunc(g.Resources, func(spec string) bool { return names(spec, a) })
	})
}

// names reports whether a rule's resource is that of the request.
func names(spec string, a *auth.Attributes) bool {
	resource, sub, hasSub := strings.Cut(spec, "/")
	switch {
	case spec == "*":
		return true
	case !hasSub:
		return a.Subresource == "" && resource == a.Resource
	case sub == "*":
		// As upstream, this is the resource itself, too.
		return resource == a.Resource
	case resource == "*":
		return sub == a.Subresource
	}
	return resource == a.Resource && sub == a.Subresource
}
