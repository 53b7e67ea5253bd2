package alerting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/provider"
	"github.com/prometheus/common/model"
)

// Alertmanager forgets its alerts when it stops and relies on Prometheus to send
// them again. An alert whose condition ended meanwhile is never sent again, and
// its receiver would never hear of the end. So the alerts are kept too.

func (a *queuedAlert) alert() *alert.Alert {
	return &alert.Alert{UpdatedAt: a.UpdatedAt, Timeout: a.Timeout, Alert: model.Alert{
		Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.StartsAt, EndsAt: a.EndsAt, GeneratorURL: a.GeneratorURL,
	}}
}

func queuedFrom(a *alert.Alert) queuedAlert {
	return queuedAlert{a.Labels, a.Annotations, a.StartsAt, a.EndsAt, a.GeneratorURL, a.UpdatedAt, a.Timeout}
}

// saveAlerts writes the alerts the router knows.
func saveAlerts(path string, alerts provider.Alerts) error {
	list := []queuedAlert{}
	it := alerts.GetPending()
	defer it.Close()
	for a := range it.Next() {
		list = append(list, queuedFrom(a.Data))
	}
	b, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("cannot encode alerts: %w", err)
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot save alerts: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("cannot save alerts in %q: %w", path, err)
	}
	return nil
}

// loadAlerts puts saved alerts back. Those that were firing stay so for grace,
// which gives the rules time to say whether they still are.
func loadAlerts(ctx context.Context, path string, alerts provider.Alerts, now time.Time, grace time.Duration) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot load alerts: %w", err)
	}
	var list []queuedAlert
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("cannot decode alerts in %q: %w", path, err)
	}
	for i := range list {
		a := list[i].alert()
		if !a.ResolvedAt(a.UpdatedAt) && a.EndsAt.Before(now.Add(grace)) {
			a.EndsAt = now.Add(grace)
		}
		if err := alerts.Put(ctx, a); err != nil {
			return fmt.Errorf("cannot route saved alert %q: %w", a.Name(), err)
		}
	}
	return nil
}
