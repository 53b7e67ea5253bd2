package dingtalk

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	commoncfg "github.com/prometheus/common/config"
)

// Config is one entry of a receiver's dingtalk_configs.
type Config struct {
	amcommoncfg.NotifierConfig `yaml:",inline"`

	HTTPConfig *commoncfg.HTTPClientConfig `yaml:"http_config,omitempty"`

	// URL is the robot's address with its access token, as DingTalk shows
	// it. URLFile names a file with it.
	URL     commoncfg.Secret `yaml:"url,omitempty"`
	URLFile string           `yaml:"url_file,omitempty"`
	// Secret signs requests when the robot's security setting is "sign".
	// SecretFile names a file with it.
	Secret     commoncfg.Secret `yaml:"secret,omitempty"`
	SecretFile string           `yaml:"secret_file,omitempty"`

	// Title is what a phone shows; Text is markdown. Both are templates as in
	// every Alertmanager notifier.
	Title string `yaml:"title,omitempty"`
	Text  string `yaml:"text,omitempty"`

	// AtMobiles and AtUserIDs are mentioned, AtAll mentions everybody.
	AtMobiles []string `yaml:"at_mobiles,omitempty"`
	AtUserIDs []string `yaml:"at_user_ids,omitempty"`
	AtAll     bool     `yaml:"at_all,omitempty"`
	// AtFiringOnly leaves out the mentions when everything is resolved.
	AtFiringOnly bool `yaml:"at_firing_only,omitempty"`

	// RateLimit is how many messages a minute the robot takes. DingTalk's own
	// limit, 20, is the default and the most.
	RateLimit int `yaml:"rate_limit,omitempty"`
}

// maxRate is DingTalk's limit: beyond it the robot is silenced for ten minutes.
const maxRate = 20

const (
	defaultTitle = `{{ if eq .Status "firing" }}🔥 [FIRING:{{ .Alerts.Firing | len }}]{{ else }}✅ [RESOLVED]{{ end }} {{ with index .GroupLabels "alertname" }}{{ . }}{{ else }}{{ .GroupLabels.Values | join " " }}{{ end }}`

	defaultText = `{{ define "binnacle.dingtalk.alert" }}
#### {{ .Labels.alertname }}{{ with .Labels.severity }} · {{ . }}{{ end }}
{{ with .Annotations.summary }}
**{{ . }}**
{{ end }}{{ with .Annotations.description }}
{{ . }}
{{ end }}
{{ range .Labels.SortedPairs }}{{ if and (ne .Name "alertname") (ne .Name "severity") }}- {{ .Name }}: {{ .Value }}
{{ end }}{{ end }}- since: {{ .StartsAt.UTC.Format "2006-01-02 15:04:05 UTC" }}
{{ if eq .Status "resolved" }}- resolved: {{ .EndsAt.UTC.Format "2006-01-02 15:04:05 UTC" }}
{{ end }}{{ with .Annotations.runbook_url }}
[runbook]({{ . }})
{{ end }}{{ end }}{{ if .Alerts.Firing }}### 🔥 Firing: {{ .Alerts.Firing | len }}
{{ range .Alerts.Firing }}{{ template "binnacle.dingtalk.alert" . }}{{ end }}{{ end }}{{ if .Alerts.Resolved }}
### ✅ Resolved: {{ .Alerts.Resolved | len }}
{{ range .Alerts.Resolved }}{{ template "binnacle.dingtalk.alert" . }}{{ end }}{{ end }}
{{ with .ExternalURL }}[Binnacle]({{ . }}){{ end }}`
)

// UnmarshalYAML sets defaults and validates.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	*c = Config{NotifierConfig: amcommoncfg.NotifierConfig{VSendResolved: true}, Title: defaultTitle, Text: defaultText, RateLimit: maxRate}
	type plain Config
	if err := unmarshal((*plain)(c)); err != nil {
		return err
	}
	switch {
	case (c.URL == "") == (c.URLFile == ""):
		return errors.New("exactly one of url and url_file must be configured")
	case c.Secret != "" && c.SecretFile != "":
		return errors.New("at most one of secret and secret_file must be configured")
	case c.RateLimit < 1 || c.RateLimit > maxRate:
		return fmt.Errorf("rate_limit must be 1 to %d messages a minute, not %d", maxRate, c.RateLimit)
	case c.Title == "" || c.Text == "":
		return errors.New("title and text must not be empty")
	}
	if c.URL != "" {
		if _, err := parseURL(string(c.URL)); err != nil {
			return err
		}
	}
	return nil
}

// SetDirectory makes relative file names relative to dir.
func (c *Config) SetDirectory(dir string) {
	c.HTTPConfig.SetDirectory(dir)
	for _, f := range []*string{&c.URLFile, &c.SecretFile} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
}

// parseURL's errors do not contain the URL: it carries the token.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("url must be an http or https address such as https://oapi.dingtalk.com/robot/send?access_token=…")
	}
	return u, nil
}

// robot reads the address and the secret, from files when so configured.
func (c *Config) robot() (u *url.URL, secret string, err error) {
	address, secret := string(c.URL), string(c.Secret)
	for file, to := range map[string]*string{c.URLFile: &address, c.SecretFile: &secret} {
		if file == "" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, "", fmt.Errorf("cannot read DingTalk robot's file: %w", err)
		}
		*to = strings.TrimSpace(string(b))
	}
	u, err = parseURL(address)
	return u, secret, err
}
