package auth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

const (
	abacVersion = "abac.authorization.kubernetes.io/v1beta1"
	// maxPolicyLine bounds a line of the policy file.
	maxPolicyLine = 64 << 10
)

// ABAC decides by a file of policies, one JSON object of kind Policy
// (abac.authorization.kubernetes.io/v1beta1) a line. It is not read again.
type ABAC struct{ policies []abacPolicy }

// abacPolicy allows its subject what it names; "*" is everything and an empty
// field nothing. The user or group "*" is everybody who is authenticated, as
// upstream's conversion has it: never system:anonymous.
type abacPolicy struct {
	User            string `json:"user,omitempty"`
	Group           string `json:"group,omitempty"`
	Readonly        bool   `json:"readonly,omitempty"`
	APIGroup        string `json:"apiGroup,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Resource        string `json:"resource,omitempty"`
	NonResourcePath string `json:"nonResourcePath,omitempty"`
}

// ReadABAC reads a policy file.
func ReadABAC(path string) (*ABAC, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read authorization policies: %w", err)
	}
	defer f.Close()
	policies, err := parsePolicies(f)
	if err != nil {
		return nil, fmt.Errorf("cannot use authorization policies %s: %w", path, err)
	}
	return &ABAC{policies}, nil
}

func parsePolicies(from io.Reader) ([]abacPolicy, error) {
	scan := bufio.NewScanner(from)
	scan.Buffer(nil, maxPolicyLine)
	var policies []abacPolicy
	line := 0
	for scan.Scan() {
		line++
		text := bytes.TrimSpace(scan.Bytes())
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		p, err := parsePolicy(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		policies = append(policies, p)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", line+1, err)
	}
	return policies, nil
}

func parsePolicy(text []byte) (abacPolicy, error) {
	var doc struct {
		APIVersion string     `json:"apiVersion"`
		Kind       string     `json:"kind"`
		Spec       abacPolicy `json:"spec"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return abacPolicy{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return abacPolicy{}, errors.New("more than one object")
	}
	if doc.APIVersion != abacVersion || doc.Kind != "Policy" {
		return abacPolicy{}, fmt.Errorf("want a Policy of %s, not %s of %q", abacVersion, doc.Kind, doc.APIVersion)
	}
	if doc.Spec.User == "" && doc.Spec.Group == "" {
		return abacPolicy{}, errors.New("the policy names neither user nor group and concerns nobody")
	}
	if doc.Spec.User == all || doc.Spec.Group == all {
		doc.Spec.User, doc.Spec.Group = "", GroupAuthenticated
	}
	return doc.Spec, nil
}

func (p *abacPolicy) concerns(u *User) bool {
	user := p.User == "" || p.User == u.Name
	group := p.Group == "" || u.InGroup(p.Group)
	return user && group && (p.User != "" || p.Group != "")
}

func (p *abacPolicy) allows(a Attributes) bool {
	if p.Readonly && !slices.Contains([]string{"get", "list", "watch"}, a.Verb) {
		return false
	}
	if a.Path != "" {
		return p.NonResourcePath != "" && pathMatches(p.NonResourcePath, a.Path)
	}
	is := func(pattern, s string) bool { return pattern == all || pattern == s }
	return is(p.Namespace, a.Namespace) && is(p.Resource, a.Resource) && is(p.APIGroup, a.Group)
}

// Authorize implements Authorizer. It never denies.
func (z *ABAC) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	if a.User != nil {
		for i := range z.policies {
			if p := &z.policies[i]; p.concerns(a.User) && p.allows(a) {
				return Allow, "", nil
			}
		}
	}
	return NoOpinion, "No policy matched.", nil
}

// Rules returns what u may do in namespace as rules.
func (z *ABAC) Rules(u *User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	for i := range z.policies {
		p := &z.policies[i]
		if !p.concerns(u) || p.Namespace != all && p.Namespace != namespace {
			continue
		}
		verbs := []string{all}
		if p.Readonly {
			verbs = strings.Fields("get list watch")
		}
		if p.Resource != "" {
			rules = append(rules, rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{p.APIGroup}, Resources: []string{p.Resource}})
		}
		if p.NonResourcePath != "" {
			rules = append(rules, rbacv1.PolicyRule{Verbs: verbs, NonResourceURLs: []string{p.NonResourcePath}})
		}
	}
	return rules, nil
}
