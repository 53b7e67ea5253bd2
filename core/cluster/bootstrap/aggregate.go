package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// aggregatedRules returns the rules of each aggregated role that are not what
// the labelled roles add up to, by name. Roles may be aggregated from
// aggregated ones, so it works on its own results until they rest.
func aggregatedRules(roles []*rbacv1.ClusterRole) (map[string][]rbacv1.PolicyRule, error) {
	roles = slices.SortedFunc(slices.Values(roles), func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	rules := map[string][]rbacv1.PolicyRule{}
	selectors := map[string][]labels.Selector{}
	var errs []error
	for _, r := range roles {
		rules[r.Name] = r.Rules
		if r.AggregationRule == nil {
			continue
		}
		for i := range r.AggregationRule.ClusterRoleSelectors {
			s, err := metav1.LabelSelectorAsSelector(&r.AggregationRule.ClusterRoleSelectors[i])
			if err != nil {
				errs = append(errs, fmt.Errorf("cannot aggregate cluster role %q: %w", r.Name, err))
				continue
			}
			selectors[r.Name] = append(selectors[r.Name], s)
		}
	}
	changed := map[string][]rbacv1.PolicyRule{}
	// A chain of aggregations is at most as long as there are roles.
	for range len(roles) {
		moved := false
		for _, r := range roles {
			if r.AggregationRule == nil {
				continue
			}
			sum := sumOf(r.Name, roles, selectors[r.Name], rules)
			if equality.Semantic.DeepEqual(sum, rules[r.Name]) {
				continue
			}
			rules[r.Name], changed[r.Name], moved = sum, sum, true
		}
		if !moved {
			break
		}
	}
	return changed, errors.Join(errs...)
}

func sumOf(name string, roles []*rbacv1.ClusterRole, selectors []labels.Selector, rules map[string][]rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var sum []rbacv1.PolicyRule
	for _, s := range selectors {
		for _, r := range roles {
			if r.Name == name || !s.Matches(labels.Set(r.Labels)) {
				continue
			}
			for _, rule := range rules[r.Name] {
				if !slices.ContainsFunc(sum, func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, rule) }) {
					sum = append(sum, rule)
				}
			}
		}
	}
	return sum
}

// aggregateAll brings all aggregated roles up to date. It updates the others
// when one fails.
func aggregateAll(ctx context.Context, c client.Client) error {
	roles, _, err := client.ListOf[*rbacv1.ClusterRole](ctx, c, client.ReadOptions{})
	if err != nil {
		return err
	}
	changed, err := aggregatedRules(roles)
	errs := []error{err}
	for name, rules := range changed {
		_, err := client.Modify(ctx, c, "", name, "", func(r *rbacv1.ClusterRole) (bool, error) {
			if r.AggregationRule == nil || equality.Semantic.DeepEqual(r.Rules, rules) {
				return false, nil
			}
			r.Rules = rules
			return true, nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot update aggregated cluster role %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Aggregator keeps roles with an aggregationRule up to date.
type Aggregator struct {
	c   client.Client
	tel *telemetry.Component
}

// NewAggregator returns an Aggregator that reads and writes through c, which
// needs the verbs of system:controller:clusterrole-aggregation-controller.
func NewAggregator(c client.Client, tel *telemetry.Component) *Aggregator { return &Aggregator{c, tel} }

// Run works until ctx ends.
func (a *Aggregator) Run(ctx context.Context) error {
	const shortest, longest = 100 * time.Millisecond, 30 * time.Second
	for pause := shortest; ; pause = min(2*pause, longest) {
		err := a.follow(ctx, func() { pause = shortest })
		if ctx.Err() != nil {
			return nil
		}
		a.tel.Log.Warn("cannot aggregate cluster roles, will try again", "error", err, "after", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// follow aggregates after every change of a cluster role until something
// fails. Its own writes come back as changes and find nothing to do.
func (a *Aggregator) follow(ctx context.Context, done func()) error {
	w, err := client.WatchOf[*rbacv1.ClusterRole](ctx, a.c, "", client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	synced := false
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if synced = synced || e.Type == client.Bookmark; !synced {
			continue // the present state is still coming in
		}
		if err := aggregateAll(ctx, a.c); err != nil {
			return err
		}
		done()
	}
}
