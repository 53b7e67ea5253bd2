package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/auth"
)

// auditLog writes one event a request, at the stage ResponseComplete and level
// Metadata, in the shape of audit.k8s.io/v1.
type auditLog struct {
	to      io.Writer // nil: events are counted only
	metrics *metrics
	log     *slog.Logger

	mu sync.Mutex // held while an event is written
}

type auditEvent struct {
	Kind                     string                     `json:"kind"`
	APIVersion               string                     `json:"apiVersion"`
	Level                    string                     `json:"level"`
	AuditID                  types.UID                  `json:"auditID"`
	Stage                    string                     `json:"stage"`
	RequestURI               string                     `json:"requestURI"`
	Verb                     string                     `json:"verb"`
	User                     authenticationv1.UserInfo  `json:"user"`
	ImpersonatedUser         *authenticationv1.UserInfo `json:"impersonatedUser,omitempty"`
	SourceIPs                []string                   `json:"sourceIPs,omitempty"`
	UserAgent                string                     `json:"userAgent,omitempty"`
	ObjectRef                *auditRef                  `json:"objectRef,omitempty"`
	ResponseStatus           *metav1.Status             `json:"responseStatus,omitempty"`
	RequestReceivedTimestamp metav1.MicroTime           `json:"requestReceivedTimestamp"`
	StageTimestamp           metav1.MicroTime           `json:"stageTimestamp"`
	Annotations              map[string]string          `json:"annotations,omitempty"`
}

type auditRef struct {
	Resource    string `json:"resource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	APIGroup    string `json:"apiGroup,omitempty"`
	APIVersion  string `json:"apiVersion,omitempty"`
	Subresource string `json:"subresource,omitempty"`
}

func userInfo(u *auth.User) authenticationv1.UserInfo {
	if u == nil {
		return authenticationv1.UserInfo{}
	}
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}

func (a *auditLog) write(ev *auditEvent, received time.Time) {
	a.metrics.audit.Inc()
	if a.to == nil {
		return
	}
	ev.Kind, ev.APIVersion, ev.Level, ev.Stage = "Event", "audit.k8s.io/v1", "Metadata", "ResponseComplete"
	ev.RequestReceivedTimestamp = metav1.NewMicroTime(received)
	ev.StageTimestamp = metav1.NowMicro()
	line, err := json.Marshal(ev)
	if err == nil {
		a.mu.Lock()
		_, err = a.to.Write(append(line, '\n'))
		a.mu.Unlock()
	}
	if err != nil {
		a.metrics.auditErrors.Inc()
		a.log.Error("audit event not written", "auditID", ev.AuditID, "error", err)
	}
}
