package flowcontrol

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

const (
	// borrowEvery is how often seats are divided anew.
	borrowEvery = 10 * time.Second
	// maintainEvery is how often the default objects are looked after.
	maintainEvery = time.Minute
	// retryAfter is the pause after a failure; up to twice as long.
	retryAfter = time.Second

	producer = "api-priority-and-fairness-config-producer-v1"
	consumer = "api-priority-and-fairness-config-consumer-v1"
)

// Run follows the stored configuration, keeps its default objects, writes the
// schemas' conditions and lets levels borrow seats from each other, until ctx
// ends.
func (c *Controller) Run(ctx context.Context) error {
	if c.client == nil {
		return fmt.Errorf("cannot follow the configuration of priority and fairness: no client is set")
	}
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	for _, resource := range []string{"flowschemas", "prioritylevelconfigurations"} {
		r := schema.GroupResource{Group: flowcontrolv1.GroupName, Resource: resource}
		g.Go(func() error { c.follow(ctx, r, changed); return nil })
	}
	g.Go(func() error { c.serve(ctx, changed); return nil })
	return g.Wait()
}

// follow reports changes of one resource.
func (c *Controller) follow(ctx context.Context, r client.Resource, changed chan<- struct{}) {
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // one is noted already
		}
	}
	for ctx.Err() == nil {
		err := c.watch(ctx, r, note)
		if ctx.Err() != nil {
			return
		}
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			c.tel.Log.Warn("cannot follow the configuration of priority and fairness, will try again", "resource", r.Resource, "error", err)
		}
		pause(ctx, retryAfter)
	}
}

func (c *Controller) watch(ctx context.Context, r client.Resource, note func()) error {
	w, err := c.client.Watch(ctx, r, "", client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if ev.Type != client.Bookmark {
			note()
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d + rand.N(d)):
	}
}

// serve is the one goroutine that changes anything.
func (c *Controller) serve(ctx context.Context, changed <-chan struct{}) {
	for c.begin(ctx) != nil {
		if ctx.Err() != nil {
			return
		}
	}
	close(c.ready)
	borrow, maintain := time.NewTicker(borrowEvery), time.NewTicker(maintainEvery)
	defer borrow.Stop()
	defer maintain.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-changed:
			err = c.adopt(ctx)
		case <-borrow.C:
			if c.tick() {
				err = c.adopt(ctx)
			}
		case <-maintain.C:
			err = c.maintain(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.tel.Log.Warn("configuration of priority and fairness not kept, will try again", "error", err)
		}
	}
}

func (c *Controller) begin(ctx context.Context) error {
	err := c.maintain(ctx)
	if err == nil {
		err = c.adopt(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.tel.Log.Warn("configuration of priority and fairness not begun, will try again", "error", err)
		pause(ctx, retryAfter)
	}
	return err
}

// adopt puts the stored configuration in force and says so in the schemas'
// status.
func (c *Controller) adopt(ctx context.Context) error {
	levels, _, err := client.ListOf[*flowcontrolv1.PriorityLevelConfiguration](ctx, c.client, client.ReadOptions{})
	if err != nil {
		return err
	}
	schemas, _, err := client.ListOf[*flowcontrolv1.FlowSchema](ctx, c.client, client.ReadOptions{})
	if err != nil {
		return err
	}
	c.configure(schemas, levels)
	good := func(name string) bool {
		return slices.ContainsFunc(levels, func(l *flowcontrolv1.PriorityLevelConfiguration) bool { return l.Name == name && usable(l) == nil })
	}
	for _, f := range schemas {
		want, write := dangling(f, good(f.Spec.PriorityLevelConfiguration.Name))
		if !write || !c.status.allow(f.Name, time.Now()) {
			continue
		}
		if err := c.writeCondition(ctx, f.Name, want); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot write the status of FlowSchema %q: %w", f.Name, err)
		}
	}
	return nil
}

// dangling is the condition a schema should have, and whether it has not.
func dangling(f *flowcontrolv1.FlowSchema, found bool) (flowcontrolv1.FlowSchemaCondition, bool) {
	to := f.Spec.PriorityLevelConfiguration.Name
	want := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionTrue, Reason: "NotFound",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", to),
	}
	if found {
		want.Status, want.Reason = flowcontrolv1.ConditionFalse, "Found"
		want.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", to)
	}
	for _, have := range f.Status.Conditions {
		if have.Type == want.Type && have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
			return want, false
		}
	}
	return want, true
}

func (c *Controller) writeCondition(ctx context.Context, name string, cond flowcontrolv1.FlowSchemaCondition) error {
	cond.LastTransitionTime = metav1.Now()
	body, err := json.Marshal(map[string]any{
		"apiVersion": flowcontrolv1.SchemeGroupVersion.String(), "kind": "FlowSchema", "metadata": map[string]string{"name": name},
		"status": map[string]any{"conditions": []any{cond}},
	})
	if err != nil {
		return err
	}
	_, err = client.Patch[*flowcontrolv1.FlowSchema](ctx, c.client, "", name, types.ApplyYAMLPatchType, body,
		client.WriteOptions{Subresource: "status", FieldManager: consumer, Force: true})
	return err
}

// statusLog keeps two servers that disagree from writing against each other:
// six conditions of one schema a minute.
type statusLog struct{ written map[string][]time.Time }

func (s *statusLog) allow(name string, now time.Time) bool {
	if s.written == nil {
		s.written = map[string][]time.Time{}
	}
	recent := slices.DeleteFunc(s.written[name], func(t time.Time) bool { return now.Sub(t) > time.Minute })
	if s.written[name] = recent; len(recent) > 5 {
		return false
	}
	s.written[name] = append(recent, now)
	return true
}
