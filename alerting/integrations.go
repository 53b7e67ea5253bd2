package alerting

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	amconfig "github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/discord"
	"github.com/prometheus/alertmanager/notify/email"
	"github.com/prometheus/alertmanager/notify/incidentio"
	"github.com/prometheus/alertmanager/notify/jira"
	"github.com/prometheus/alertmanager/notify/mattermost"
	"github.com/prometheus/alertmanager/notify/msteams"
	"github.com/prometheus/alertmanager/notify/msteamsv2"
	"github.com/prometheus/alertmanager/notify/opsgenie"
	"github.com/prometheus/alertmanager/notify/pagerduty"
	"github.com/prometheus/alertmanager/notify/pushover"
	"github.com/prometheus/alertmanager/notify/rocketchat"
	"github.com/prometheus/alertmanager/notify/slack"
	"github.com/prometheus/alertmanager/notify/telegram"
	"github.com/prometheus/alertmanager/notify/victorops"
	"github.com/prometheus/alertmanager/notify/webex"
	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/notify/wechat"
	"github.com/prometheus/alertmanager/template"

	"binnacle.io/alerting/dingtalk"
)

// integration is a notifier with its place in the configuration.
type integration struct {
	notify.Integration
	notifier notify.Notifier
}

func (i *integration) destination(receiver string) string {
	return fmt.Sprintf("%s/%s[%d]", receiver, i.Name(), i.Index())
}

// builder builds the integrations of one receiver.
type builder struct {
	receiver string
	log      *slog.Logger
	out      []integration
	errs     []error
}

func add[C notify.ResolvedSender, N notify.Notifier](b *builder, name string, configs []C, build func(C, *slog.Logger) (N, error)) {
	for i, c := range configs {
		n, err := build(c, b.log.With("integration", name))
		if err != nil {
			b.errs = append(b.errs, fmt.Errorf("cannot build %s[%d] of receiver %q: %w", name, i, b.receiver, err))
			continue
		}
		b.out = append(b.out, integration{notify.NewIntegration(n, c, name, i, b.receiver), n})
	}
}

// build makes the integrations of a receiver. SNS is left out: its SDK is larger
// than all others together; refuse says so.
func build(r amconfig.Receiver, own []*dingtalk.Config, t *template.Template, robots *dingtalk.Robots,
	log *slog.Logger, now func() time.Time) ([]integration, error) {
	b := &builder{receiver: r.Name, log: log}
	add(b, "webhook", r.WebhookConfigs, func(c *webhook.WebhookConfig, l *slog.Logger) (*webhook.Notifier, error) { return webhook.New(c, t, l) })
	add(b, "dingtalk", own, func(c *dingtalk.Config, l *slog.Logger) (*dingtalk.Notifier, error) {
		return dingtalk.New(c, t, l, robots, now)
	})
	add(b, "email", r.EmailConfigs, func(c *amconfig.EmailConfig, l *slog.Logger) (*email.Email, error) { return email.New(c, t, l), nil })
	add(b, "wechat", r.WechatConfigs, func(c *amconfig.WechatConfig, l *slog.Logger) (*wechat.Notifier, error) { return wechat.New(c, t, l) })
	add(b, "slack", r.SlackConfigs, func(c *amconfig.SlackConfig, l *slog.Logger) (*slack.Notifier, error) { return slack.New(c, t, l) })
	add(b, "pagerduty", r.PagerdutyConfigs, func(c *pagerduty.PagerdutyConfig, l *slog.Logger) (*pagerduty.Notifier, error) {
		return pagerduty.New(c, t, l)
	})
	add(b, "opsgenie", r.OpsGenieConfigs, func(c *opsgenie.OpsGenieConfig, l *slog.Logger) (*opsgenie.Notifier, error) {
		return opsgenie.New(c, t, l)
	})
	add(b, "victorops", r.VictorOpsConfigs, func(c *amconfig.VictorOpsConfig, l *slog.Logger) (*victorops.Notifier, error) {
		return victorops.New(c, t, l)
	})
	add(b, "pushover", r.PushoverConfigs, func(c *amconfig.PushoverConfig, l *slog.Logger) (*pushover.Notifier, error) {
		return pushover.New(c, t, l)
	})
	add(b, "telegram", r.TelegramConfigs, func(c *telegram.TelegramConfig, l *slog.Logger) (*telegram.Notifier, error) {
		return telegram.New(c, t, l)
	})
	add(b, "discord", r.DiscordConfigs, func(c *discord.DiscordConfig, l *slog.Logger) (*discord.Notifier, error) { return discord.New(c, t, l) })
	add(b, "webex", r.WebexConfigs, func(c *amconfig.WebexConfig, l *slog.Logger) (*webex.Notifier, error) { return webex.New(c, t, l) })
	add(b, "msteams", r.MSTeamsConfigs, func(c *msteams.MSTeamsConfig, l *slog.Logger) (*msteams.Notifier, error) { return msteams.New(c, t, l) })
	add(b, "msteamsv2", r.MSTeamsV2Configs, func(c *msteamsv2.MSTeamsV2Config, l *slog.Logger) (*msteamsv2.Notifier, error) {
		return msteamsv2.New(c, t, l)
	})
	add(b, "jira", r.JiraConfigs, func(c *jira.JiraConfig, l *slog.Logger) (*jira.Notifier, error) { return jira.New(c, t, l) })
	add(b, "incidentio", r.IncidentioConfigs, func(c *incidentio.IncidentioConfig, l *slog.Logger) (*incidentio.Notifier, error) {
		return incidentio.New(c, t, l)
	})
	add(b, "rocketchat", r.RocketchatConfigs, func(c *amconfig.RocketchatConfig, l *slog.Logger) (*rocketchat.Notifier, error) {
		return rocketchat.New(c, t, l)
	})
	add(b, "mattermost", r.MattermostConfigs, func(c *mattermost.MattermostConfig, l *slog.Logger) (*mattermost.Notifier, error) {
		return mattermost.New(c, t, l)
	})
	return b.out, errors.Join(b.errs...)
}
