package flowcontrol_test

import (
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/flowcontrol"
)

// TestMaintain: whose the default objects are, by annotation and generation.
func TestMaintain(t *testing.T) {
	c := apitest.Start(t).Client
	ctx := t.Context()
	const mark = flowcontrolv1.AutoUpdateAnnotationKey
	type (
		schema = flowcontrolv1.FlowSchema
		level  = flowcontrolv1.PriorityLevelConfiguration
	)
	change := func(name string, f func(*schema)) {
		t.Helper()
		if _, err := client.Modify(ctx, c, "", name, "", func(s *schema) (bool, error) { f(s); return true, nil }); err != nil {
			t.Fatal(err)
		}
	}
	precedence := func(p int32) func(*schema) { return func(s *schema) { s.Spec.MatchingPrecedence = p } }
	change("service-accounts", precedence(7000)) // ours still
	change("global-default", func(s *schema) { s.Annotations[mark] = "false"; s.Spec.MatchingPrecedence = 7001 })
	change("probes", func(s *schema) { delete(s.Annotations, mark); s.Spec.MatchingPrecedence = 7002 }) // generation 2
	change("system-nodes", func(s *schema) { delete(s.Annotations, mark) })                             // generation 1
	if err := client.Delete[*schema](ctx, c, "", "kube-scheduler", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, owned := range map[string]string{"obsolete": "true", "users-own": "false"} {
		old := &schema{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{mark: owned}}}
		old.Spec.PriorityLevelConfiguration.Name = "system"
		if _, err := client.Create(ctx, c, old); err != nil {
			t.Fatal(err)
		}
	}
	shares := int32(12)
	if _, err := client.Modify(ctx, c, "", "exempt", "", func(l *level) (bool, error) {
		l.Spec.Exempt.NominalConcurrencyShares = &shares
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	// A pass leaves alone what is changed meanwhile, here by the server that
	// writes the condition of the new schemas; the next comes back to it.
	gone := false
	for range 100 {
		if err := flowcontrol.Maintain(ctx, c); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get[*schema](ctx, c, "", "obsolete"); apierrors.IsNotFound(err) {
			gone = true
			break
		}
	}
	if !gone {
		t.Error("the obsolete schema is still there")
	}
	for name, want := range map[string]struct {
		precedence int32
		mark       string
	}{
		"service-accounts": {9000, "true"}, "global-default": {7001, "false"}, "probes": {7002, "false"},
		"system-nodes": {500, "true"}, "kube-scheduler": {800, "true"}, "users-own": {1000, "false"},
	} {
		s, err := client.Get[*schema](ctx, c, "", name)
		if err != nil || s.Spec.MatchingPrecedence != want.precedence || s.Annotations[mark] != want.mark {
			t.Errorf("%s: %v precedence %d, mark %q, want %+v", name, err, s.Spec.MatchingPrecedence, s.Annotations[mark], want)
		}
	}
	if l, err := client.Get[*level](ctx, c, "", "exempt"); err != nil || *l.Spec.Exempt.NominalConcurrencyShares != shares {
		t.Errorf("exempt: %v %+v", err, l)
	}
}
