package dingtalk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/types"
	commoncfg "github.com/prometheus/common/config"
)

const (
	// maxBody is what DingTalk takes as one request.
	maxBody = 20000
	// maxTitle keeps a title from eating the room of the text. In bytes.
	maxTitle = 400
	// partMark is room for " (12/34)" after the title.
	partMark = 16
	// minText is the room for text that mentions must leave.
	minText = 2000
	// refusedFor is how long DingTalk silences a robot over its limit.
	refusedFor = 10 * time.Minute
)

// WaitError says that trying again before After makes no sense.
type WaitError struct {
	After time.Duration
	Err   error
}

func (e *WaitError) Error() string             { return e.Err.Error() }
func (e *WaitError) Unwrap() error             { return e.Err }
func (e *WaitError) RetryAfter() time.Duration { return e.After }

// Notifier sends to one robot. It is used by one goroutine at a time.
type Notifier struct {
	conf   *Config
	tmpl   *template.Template
	log    *slog.Logger
	client *http.Client
	robots *Robots
	now    func() time.Time

	unfinished map[string]*unfinished // by group key
}

// unfinished is what remains of a notification that failed half way.
type unfinished struct {
	id   string
	rest []message
	sent int
	all  int
}

// maxUnfinished bounds the memory for notifications that failed half way; beyond
// it, all are forgotten and would be sent from their start.
const maxUnfinished = 64

// New returns a notifier for a validated config.
func New(conf *Config, tmpl *template.Template, log *slog.Logger, robots *Robots, now func() time.Time) (*Notifier, error) {
	httpConfig := commoncfg.DefaultHTTPClientConfig
	if conf.HTTPConfig != nil {
		httpConfig = *conf.HTTPConfig
	}
	client, err := commoncfg.NewClientFromConfig(httpConfig, "dingtalk")
	if err != nil {
		return nil, fmt.Errorf("cannot build HTTP client for DingTalk: %w", err)
	}
	return &Notifier{conf: conf, tmpl: tmpl, log: log, client: client, robots: robots, now: now}, nil
}

// message is DingTalk's request.
type message struct {
	MsgType  string   `json:"msgtype"`
	Markdown markdown `json:"markdown"`
	At       at       `json:"at"`
}

type markdown struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

type at struct {
	AtMobiles []string `json:"atMobiles"`
	AtUserIDs []string `json:"atUserIds"`
	IsAtAll   bool     `json:"isAtAll"`
}

// Notify sends the alerts, in as many messages as their size asks for. A repeated
// call for the same alerts continues with the first part that was not taken.
func (n *Notifier) Notify(ctx context.Context, alerts ...*alert.Alert) (retry bool, err error) {
	group, err := notify.ExtractGroupKey(ctx)
	if err != nil {
		return false, err
	}
	id := identity(group.String(), alerts)
	u := n.unfinished[group.String()]
	delete(n.unfinished, group.String())
	if u == nil || u.id != id {
		messages, err := n.render(notify.GetTemplateData(ctx, n.tmpl, alerts, n.log))
		if err != nil {
			return false, notify.NewErrorWithReason(notify.ClientErrorReason, err)
		}
		u = &unfinished{id: id, rest: messages, all: len(messages)}
	}
	for len(u.rest) > 0 {
		if retry, err := n.send(ctx, &u.rest[0]); err != nil {
			if u.all > 1 {
				err = fmt.Errorf("part %d of %d: %w", u.sent+1, u.all, err)
			}
			if retry && u.sent > 0 {
				n.keep(group.String(), u)
			}
			return retry, err
		}
		u.rest, u.sent = u.rest[1:], u.sent+1
	}
	return false, nil
}

func (n *Notifier) keep(group string, u *unfinished) {
	if len(n.unfinished) >= maxUnfinished {
		clear(n.unfinished)
	}
	if n.unfinished == nil {
		n.unfinished = map[string]*unfinished{}
	}
	n.unfinished[group] = u
}

// Ready returns how long the robot's limit asks to wait before the next message.
func (n *Notifier) Ready() time.Duration {
	u, _, err := n.conf.robot()
	if err != nil {
		return 0 // Notify will say so
	}
	return n.robots.wait(u.String(), n.conf.RateLimit)
}

// identity tells one notification from another.
func identity(group string, alerts []*types.Alert) string {
	var b strings.Builder
	b.WriteString(group)
	for _, a := range alerts {
		fmt.Fprintf(&b, "|%s %d %d %d", a.Fingerprint(), a.StartsAt.UnixNano(), a.EndsAt.UnixNano(), a.UpdatedAt.UnixNano())
	}
	return b.String()
}

// render makes the messages.
func (n *Notifier) render(data *template.Data) ([]message, error) {
	var err error
	expand := notify.TmplText(n.tmpl, data, &err)
	title, text := expand(n.conf.Title), expand(n.conf.Text)
	if err != nil {
		return nil, fmt.Errorf("cannot expand DingTalk template: %w", err)
	}
	title, _ = notify.TruncateInBytes(strings.TrimSpace(title), maxTitle)
	text = strings.TrimSpace(text)

	var who at
	if !n.conf.AtFiringOnly || data.Status == "firing" {
		who = at{n.conf.AtMobiles, n.conf.AtUserIDs, n.conf.AtAll}
	}
	// A mention is shown only where the text names it.
	var mention strings.Builder
	for _, m := range append(append([]string{}, who.AtMobiles...), who.AtUserIDs...) {
		mention.WriteString(" @" + m)
	}
	tail := ""
	if mention.Len() > 0 {
		tail = "\n\n" + strings.TrimSpace(mention.String())
	}
	envelope, err := encode(&message{MsgType: "markdown", Markdown: markdown{Title: title, Text: tail}, At: who})
	if err != nil {
		return nil, err
	}
	room := maxBody - len(envelope) - partMark
	if room < minText {
		return nil, fmt.Errorf("cannot mention %d people: no room is left for the text", len(who.AtMobiles)+len(who.AtUserIDs))
	}
	parts := split(text, room)
	messages := make([]message, len(parts))
	for i, p := range parts {
		m := message{MsgType: "markdown", Markdown: markdown{Title: title, Text: p}, At: at{}}
		if len(parts) > 1 {
			m.Markdown.Title = fmt.Sprintf("%s (%d/%d)", title, i+1, len(parts))
		}
		if i == len(parts)-1 {
			m.Markdown.Text += tail
			m.At = who
		}
		messages[i] = m
	}
	return messages, nil
}

func encode(m *message) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("cannot encode DingTalk message: %w", err)
	}
	return b.Bytes(), nil
}

// Sign returns DingTalk's signature of a time: the base64 of the HMAC-SHA256 of
// the milliseconds, a newline and the secret, keyed with the secret.
func Sign(secret string, t time.Time) (timestamp, sign string) {
	timestamp = strconv.FormatInt(t.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "\n" + secret))
	return timestamp, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func signed(u *url.URL, secret string, now time.Time) string {
	if secret == "" {
		return u.String()
	}
	timestamp, sign := Sign(secret, now)
	out := *u
	q := out.Query()
	q.Set("timestamp", timestamp)
	q.Set("sign", sign)
	out.RawQuery = q.Encode()
	return out.String()
}

// send makes one request.
func (n *Notifier) send(ctx context.Context, m *message) (retry bool, err error) {
	u, secret, err := n.conf.robot()
	if err != nil {
		return true, err // a file may come back
	}
	body, err := encode(m)
	if err != nil {
		return false, err
	}
	robot := u.String()
	if wait := n.robots.take(robot, n.conf.RateLimit); wait > 0 {
		return true, &WaitError{wait, notify.NewErrorWithReason(notify.RateLimitedReason,
			fmt.Errorf("the robot's limit of %d messages a minute is used up", n.conf.RateLimit))}
	}
	resp, err := notify.PostJSON(ctx, n.client, signed(u, secret, n.now()), bytes.NewReader(body))
	if err != nil {
		return true, notify.RedactURL(err)
	}
	defer notify.Drain(resp)
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return true, fmt.Errorf("cannot read DingTalk's answer: %w", notify.RedactURL(err))
	}
	code, retry, err := judge(resp.StatusCode, answer)
	if err != nil {
		err = notify.NewErrorWithReason(reason(resp.StatusCode, code), err)
	}
	if code == codeTooFast {
		n.robots.refused(robot, refusedFor)
		err = &WaitError{refusedFor, err}
	}
	return retry, err
}

// DingTalk's error codes that are treated by themselves.
const (
	codeOK         = 0
	codeBusy       = -1
	codeTooFast    = 130101 // over 20 messages a minute; silenced for ten minutes
	codeSecurity   = 310000 // keywords, signature or address do not fit the robot's settings
	codeNoToken    = 300001
	codeBadToken   = 400101
	codeRobotOff   = 400102
	keywordsInText = "keyword"
)

// judge reads DingTalk's answer. Errors that an operator can put right without
// changing the message (token, signature, addresses) are worth another try: the
// queue keeps the message meanwhile.
func judge(status int, body []byte) (code int, retry bool, err error) {
	if status/100 != 2 {
		return 0, status/100 == 5 || status == http.StatusTooManyRequests, fmt.Errorf("unexpected status code %d from DingTalk", status)
	}
	var answer struct {
		ErrCode *int   `json:"errcode"`
		ErrMsg  string `json:"errmsg"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.ErrCode == nil {
		return 0, true, fmt.Errorf("DingTalk's answer of %d bytes has no errcode", len(body))
	}
	code = *answer.ErrCode
	if code == codeOK {
		return code, false, nil
	}
	err = fmt.Errorf("DingTalk refused the message: %d %s", code, answer.ErrMsg)
	switch code {
	case codeBusy, codeTooFast, codeNoToken, codeBadToken, codeRobotOff:
		retry = true
	case codeSecurity:
		retry = !strings.Contains(strings.ToLower(answer.ErrMsg), keywordsInText)
	}
	return code, retry, err
}

func reason(status, code int) notify.Reason {
	switch {
	case status/100 != 2:
		return notify.GetFailureReasonFromStatusCode(status)
	case code == codeTooFast:
		return notify.RateLimitedReason
	case code == codeBusy:
		return notify.ServerErrorReason
	}
	return notify.ClientErrorReason
}
