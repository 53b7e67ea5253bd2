// Package alerting evaluates alerting rules and delivers what they find.
//
// It owns three things. Rules: Prometheus' own rule manager over given storage,
// with default groups built in, groups from files, and groups set by name at run
// time (from objects). Routing: Alertmanager's grouping, inhibition, silences,
// notification log and API v2, configured by Alertmanager's file format plus
// dingtalk_configs. Delivery: a durable queue per integration of a receiver,
// worked off with back-off and jitter.
//
// It promises that a notification which routing has decided on is on disk
// before it counts as sent, that it is tried until it is delivered, refused for
// good by the receiver, too old, or pushed out by a bound, and that each of these
// ends is counted (binnacle_alerting_queue_*). Delivery is at least once: a
// receiver may see a notification again after a crash or a reload. Without a
// configuration, from a file or set at run time, alerts are evaluated and shown
// and go nowhere else.
//
// It refuses configurations it would not honour (unknown fields, Alertmanager's
// tracing and event_recorder sections, Slack's update_message, feishu_configs),
// with the line where there is one.
package alerting
