package bootstrap

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const upstreamFile = "testdata/upstream-policy.txt"

// The golden file is made from upstream v1.36.3 by
//
//	kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o json >FILE
//	go test ./core/cluster/bootstrap -run TestUpstreamPolicy -upstream FILE
var upstreamDump = flag.String("upstream", "", "make the golden file of upstream's default policy from this dump")

// policyObject is any of the four kinds.
type policyObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Rules             []rbacv1.PolicyRule     `json:"rules"`
	AggregationRule   *rbacv1.AggregationRule `json:"aggregationRule"`
	Subjects          []rbacv1.Subject        `json:"subjects"`
	RoleRef           rbacv1.RoleRef          `json:"roleRef"`
}

// lines are what an object says, one fact a line, in an order of their own:
// rules that say the same in other words are the same.
func (o *policyObject) lines() []string {
	name := o.Kind + " " + o.Name
	if o.Namespace != "" {
		name = o.Kind + " " + o.Namespace + "/" + o.Name
	}
	facts := map[string][]string{}
	for k, v := range o.Labels {
		facts["label "+k] = []string{v}
	}
	for k, v := range o.Annotations {
		facts["annotation "+k] = []string{v}
	}
	if o.AggregationRule != nil {
		for _, s := range o.AggregationRule.ClusterRoleSelectors {
			facts["aggregates "+metav1.FormatLabelSelector(&s)] = nil
		}
	}
	if o.RoleRef.Name != "" {
		facts["role "+o.RoleRef.Kind+" "+o.RoleRef.Name] = nil
	}
	for _, s := range o.Subjects {
		facts["subject "+s.Kind+" "+strings.TrimPrefix(s.Namespace+"/"+s.Name, "/")] = nil
	}
	for _, r := range o.Rules {
		for _, p := range r.NonResourceURLs {
			facts["path "+p] = append(facts["path "+p], r.Verbs...)
		}
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				key := "on " + g + "/" + res
				if len(r.ResourceNames) == 0 {
					facts[key] = append(facts[key], r.Verbs...)
				}
				for _, n := range r.ResourceNames {
					facts[key+" "+n] = append(facts[key+" "+n], r.Verbs...)
				}
			}
		}
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(facts)) {
		values := slices.Compact(slices.Sorted(slices.Values(facts[key])))
		out = append(out, strings.TrimSuffix(name+": "+key+": "+strings.Join(values, " "), ": "))
	}
	return out
}

func policyLines(objects []policyObject) []string {
	var out []string
	for i := range objects {
		out = append(out, objects[i].lines()...)
	}
	slices.Sort(out)
	return out
}

// ourPolicy is what Bootstrap stores, aggregated roles filled.
func ourPolicy(t *testing.T) []policyObject {
	t.Helper()
	var all []policyObject
	add := func(kind string, meta metav1.ObjectMeta) *policyObject {
		all = append(all, policyObject{TypeMeta: metav1.TypeMeta{Kind: kind}, ObjectMeta: meta})
		return &all[len(all)-1]
	}
	rules := granted(t)
	for _, r := range ClusterRoles() {
		o := add("ClusterRole", r.ObjectMeta)
		o.Rules, o.AggregationRule = rules[r.Name], r.AggregationRule
	}
	for _, r := range Roles() {
		add("Role", r.ObjectMeta).Rules = r.Rules
	}
	for _, b := range ClusterRoleBindings() {
		o := add("ClusterRoleBinding", b.ObjectMeta)
		o.Subjects, o.RoleRef = b.Subjects, b.RoleRef
	}
	for _, b := range RoleBindings() {
		o := add("RoleBinding", b.ObjectMeta)
		o.Subjects, o.RoleRef = b.Subjects, b.RoleRef
	}
	return all
}

func makeUpstreamFile(t *testing.T, dump string) {
	t.Helper()
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []policyObject `json:"items"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	defaults := slices.DeleteFunc(list.Items, func(o policyObject) bool { return o.Labels[bootLabel] == "" })
	if err := os.WriteFile(upstreamFile, []byte(strings.Join(policyLines(defaults), "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestUpstreamPolicy compares the default policy with upstream's. What differs
// is in the two lists, with the reason.
func TestUpstreamPolicy(t *testing.T) {
	if *upstreamDump != "" {
		makeUpstreamFile(t, *upstreamDump)
	}
	text, err := os.ReadFile(upstreamFile)
	if err != nil {
		t.Fatal(err)
	}
	theirs := strings.Split(strings.TrimSpace(string(text)), "\n")
	ours := policyLines(ourPolicy(t))
	for _, line := range theirs {
		if !slices.Contains(ours, line) && !excused(line, onlyUpstream()) {
			t.Errorf("only upstream has  %s", line)
		}
	}
	for _, line := range ours {
		if !slices.Contains(theirs, line) && !excused(line, onlyOurs()) {
			t.Errorf("only we have       %s", line)
		}
	}
	for _, d := range append(onlyUpstream(), onlyOurs()...) {
		if !slices.ContainsFunc(append(slices.Clone(theirs), ours...), func(l string) bool { return strings.HasPrefix(l, d.prefix) }) {
			t.Errorf("the difference %q (%s) is none: take it from the list", d.prefix, d.why)
		}
	}
}

// difference is a prefix of lines that may differ, and why.
type difference struct{ prefix, why string }

func excused(line string, list []difference) bool {
	return slices.ContainsFunc(list, func(d difference) bool { return strings.HasPrefix(line, d.prefix) })
}

func onlyUpstream() []difference { return nil }

func onlyOurs() []difference {
	const (
		kubeadm = "what kubeadm adds to a cluster, and clients and kubelets count on"
		metrics = "metrics.k8s.io is built in; upstream's metrics-server brings this role"
		dns     = "CoreDNS is built in"
		v137    = "stable since 1.37"
	)
	return []difference{
		{"ClusterRole kubeadm:", kubeadm}, {"ClusterRoleBinding kubeadm:", kubeadm},
		{"Role kube-public/kubeadm:", kubeadm}, {"RoleBinding kube-public/kubeadm:", kubeadm},
		{"ClusterRole system:aggregated-metrics-reader:", metrics},
		{"ClusterRole view: on metrics.k8s.io/", metrics}, {"ClusterRole edit: on metrics.k8s.io/", metrics}, {"ClusterRole admin: on metrics.k8s.io/", metrics},
		{"ClusterRole system:coredns:", dns}, {"ClusterRoleBinding system:coredns:", dns},
		{"ClusterRole system:node: on certificates.k8s.io/clustertrustbundles:", v137},
		{"ClusterRole system:node: on certificates.k8s.io/podcertificaterequests:", v137},
	}
}
