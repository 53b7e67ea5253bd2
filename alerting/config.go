package alerting

import (
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"binnacle.io/alerting/queue"
)

// Config is what users may choose about alerting. The zero value of a field
// means its default.
type Config struct {
	// DataDir is where silences, the notification log and the queues are
	// kept, in the folder "alerting".
	DataDir string
	// File is an Alertmanager configuration file, which may have
	// dingtalk_configs. Empty means that alerts are only shown.
	File string
	// RuleFiles are paths or glob patterns of Prometheus rule files.
	RuleFiles []string
	// NoDefaultRules leaves out the built-in groups.
	NoDefaultRules bool
	// EvaluationInterval is for groups without their own. Default 5 s, at
	// least 1 s.
	EvaluationInterval time.Duration
	// ExternalURL is where users reach the UI; it is in notifications.
	// Default http://127.0.0.1:9090.
	ExternalURL string
	// ExternalLabels are added to every alert that is sent.
	ExternalLabels map[string]string
	// Retention is how long silences and the log of notifications are kept
	// after they end. Default 120 h.
	Retention time.Duration
	// QueueItems, QueueBytes and QueueAge bound what waits for one
	// integration of a receiver. Default 10,000, 64 MiB and 24 h.
	QueueItems int
	QueueBytes int64
	QueueAge   time.Duration
	// AttemptTimeout ends one attempt to deliver. Default 15 s.
	AttemptTimeout time.Duration
	// MaxRetryInterval bounds the back-off between attempts. Default 1 min.
	MaxRetryInterval time.Duration
}

const (
	minInterval = time.Second
	// resendDelay is how often a firing alert is repeated to the router. The
	// alert stays valid for four times that: after a restart, one that is not
	// repeated is resolved then. Prometheus' minute would make that four.
	resendDelay = 15 * time.Second
	// outageTolerance and forGracePeriod are Prometheus' rules.alert.*
	// settings: how old a stored "for" state may be to count after a restart,
	// and how long a restored alert waits at least.
	outageTolerance = time.Hour
	forGracePeriod  = time.Minute
	// alertGCInterval is how often resolved alerts are forgotten.
	alertGCInterval = 5 * time.Minute
	// snapshotInterval is how often silences and the notification log are
	// written, and so the most that a crash loses of them.
	snapshotInterval = time.Minute
	// restoredGrace is how long an alert of before a restart counts as firing
	// until its rule says so again: two evaluations and the group's wait.
	restoredGrace = time.Minute
	firstRetry    = 500 * time.Millisecond
)

func (c Config) withDefaults() (Config, error) {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.EvaluationInterval, 5*time.Second)
	or(&c.Retention, 120*time.Hour)
	or(&c.QueueAge, 24*time.Hour)
	or(&c.AttemptTimeout, 15*time.Second)
	or(&c.MaxRetryInterval, time.Minute)
	if c.QueueItems == 0 {
		c.QueueItems = 10_000
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 64 << 20
	}
	if c.ExternalURL == "" {
		c.ExternalURL = "http://127.0.0.1:9090"
	}
	switch u, err := url.Parse(c.ExternalURL); {
	case err != nil || u.Scheme == "" || u.Host == "":
		return c, fmt.Errorf("cannot use alerting ExternalURL %q: want an address such as https://binnacle.example", c.ExternalURL)
	case c.DataDir == "":
		return c, fmt.Errorf("cannot alert without a DataDir: silences and queues are kept there")
	case c.EvaluationInterval < minInterval:
		return c, fmt.Errorf("cannot evaluate rules every %s: the shortest interval is %s", c.EvaluationInterval, minInterval)
	case c.Retention < 0 || c.QueueAge < 0 || c.AttemptTimeout < 0 || c.MaxRetryInterval < 0 || c.QueueItems < 0 || c.QueueBytes < 0:
		return c, fmt.Errorf("cannot use negative alerting limits: %+v", c)
	}
	return c, nil
}

func (c Config) dir(name string) string { return filepath.Join(c.DataDir, "alerting", name) }

func (c Config) limits() queue.Limits {
	return queue.Limits{Items: c.QueueItems, Bytes: c.QueueBytes, Age: c.QueueAge}
}
