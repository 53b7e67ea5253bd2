package alerting

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"binnacle.io/alerting/queue"
)

// notification is what routing decided to send through one integration: all a
// notifier asks its context for, and the alerts.
type notification struct {
	Receiver       string         `json:"receiver"`
	GroupKey       string         `json:"groupKey"`
	GroupLabels    model.LabelSet `json:"groupLabels"`
	RouteLabels    model.LabelSet `json:"routeLabels,omitempty"`
	Reason         int            `json:"reason"`
	RepeatInterval time.Duration  `json:"repeatInterval"`
	Now            time.Time      `json:"now"`
	Firing         []uint64       `json:"firing"`
	Resolved       []uint64       `json:"resolved"`
	Alerts         []queuedAlert  `json:"alerts"`
}

// queuedAlert is an alert.Alert with every field spelt out.
type queuedAlert struct {
	Labels       model.LabelSet `json:"labels"`
	Annotations  model.LabelSet `json:"annotations"`
	StartsAt     time.Time      `json:"startsAt"`
	EndsAt       time.Time      `json:"endsAt"` // zero while firing
	GeneratorURL string         `json:"generatorURL"`
	UpdatedAt    time.Time      `json:"updatedAt"`
	Timeout      bool           `json:"timeout,omitempty"`
}

// capture takes the notification out of a routing pipeline's context.
func capture(ctx context.Context, alerts []*alert.Alert) (n notification, err error) {
	var ok [8]bool
	var reason notify.NotifyReason
	n.Receiver, ok[0] = notify.ReceiverName(ctx)
	n.GroupKey, ok[1] = notify.GroupKey(ctx)
	n.GroupLabels, ok[2] = notify.GroupLabels(ctx)
	n.RepeatInterval, ok[3] = notify.RepeatInterval(ctx)
	n.Now, ok[4] = notify.Now(ctx)
	n.Firing, ok[5] = notify.FiringAlerts(ctx)
	n.Resolved, ok[6] = notify.ResolvedAlerts(ctx)
	reason, ok[7] = notify.NotificationReason(ctx)
	if i := slices.Index(ok[:], false); i >= 0 {
		return n, fmt.Errorf("cannot queue notification of group %q: value %d is missing from its context", n.GroupKey, i)
	}
	n.RouteLabels, _ = notify.RouteLabels(ctx)
	n.Reason = int(reason)
	for _, a := range alerts {
		n.Alerts = append(n.Alerts, queuedFrom(a))
	}
	return n, nil
}

// restore returns the context and alerts a notifier expects.
func (n *notification) restore(ctx context.Context) (context.Context, []*alert.Alert) {
	ctx = notify.WithReceiverName(ctx, n.Receiver)
	ctx = notify.WithGroupKey(ctx, n.GroupKey)
	ctx = notify.WithGroupLabels(ctx, n.GroupLabels)
	ctx = notify.WithRouteLabels(ctx, n.RouteLabels)
	ctx = notify.WithRepeatInterval(ctx, n.RepeatInterval)
	ctx = notify.WithNow(ctx, n.Now)
	ctx = notify.WithFiringAlerts(ctx, n.Firing)
	ctx = notify.WithResolvedAlerts(ctx, n.Resolved)
	ctx = notify.WithNotificationReason(ctx, notify.NotifyReason(n.Reason))
	ctx = notify.WithNflogStore(ctx, nflog.NewStore(nil))
	alerts := make([]*alert.Alert, len(n.Alerts))
	for i := range n.Alerts {
		alerts[i] = n.Alerts[i].alert()
	}
	return ctx, alerts
}

const severityCritical = "critical"

func (n *notification) critical() bool {
	return slices.ContainsFunc(n.Alerts, func(a queuedAlert) bool { return a.Labels["severity"] == severityCritical })
}

// enqueue is the pipeline stage that stands where Alertmanager would send.
type enqueue struct {
	store       *queue.Store
	destination string
	now         func() time.Time
}

func (e enqueue) Exec(ctx context.Context, _ *slog.Logger, alerts ...*alert.Alert) (context.Context, []*alert.Alert, error) {
	n, err := capture(ctx, alerts)
	if err != nil {
		return ctx, nil, err
	}
	body, err := json.Marshal(n)
	if err != nil {
		return ctx, nil, fmt.Errorf("cannot encode notification of group %q: %w", n.GroupKey, err)
	}
	err = e.store.Put(e.destination, queue.Item{Group: n.GroupKey, Critical: n.critical(), Enqueued: e.now(), Body: body})
	return ctx, alerts, err
}
