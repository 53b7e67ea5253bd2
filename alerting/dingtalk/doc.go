// Package dingtalk sends notifications to DingTalk's custom group robots
// (https://open.dingtalk.com/document/robots/custom-robot-access).
//
// It owns the robot's configuration, the signed URL, the markdown form, the
// split of long messages, and the reading of DingTalk's error codes. It
// promises that a robot is never asked more often than its limit allows, however
// many receivers share it; that a message in several parts continues where it
// failed; and that the token and the secret appear in no error, log or metric.
//
// It refuses to queue and to repeat: it says whether, and from when, trying
// again makes sense.
package dingtalk
