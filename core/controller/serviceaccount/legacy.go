package serviceaccount

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// Since when uses of tokens have been recorded, as upstream keeps it.
const (
	TrackingConfigMap = "kube-apiserver-legacy-service-account-token-tracking"
	TrackingSince     = "since"
	// TrackingDay is the format of the days of tracking.
	TrackingDay = "2006-01-02"
)

// lookAgain is how often Secrets are looked at; what decides are days.
const lookAgain = 24 * time.Hour

// NewLegacyCleaner returns the controller that takes care of token Secrets that
// were made automatically, by versions before 1.24, and that nobody has used for
// the time: it marks them invalid, and deletes them when that has been so for
// as long again. 0 means a year.
func NewLegacyCleaner(unused time.Duration) controller.Controller {
	if unused == 0 {
		unused = 365 * 24 * time.Hour
	}
	return controller.Controller{
		Name: "legacy-service-account-token-cleaner", Account: "legacy-service-account-token-cleaner",
		Writes: []string{"labels of secrets of type kubernetes.io/service-account-token"},
		Inputs: []controller.Input{{Resource: secretResource, Keys: func(_ controller.State, o client.Object) []client.Key {
			if s, ok := o.(*corev1.Secret); !ok || s.Type != corev1.SecretTypeServiceAccountToken {
				return nil
			}
			return controller.Self(nil, o)
		}}},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			secret, ok := controller.Get[*corev1.Secret](s, key.Namespace, key.Name)
			if !ok || secret.Type != corev1.SecretTypeServiceAccountToken || secret.DeletionTimestamp != nil {
				return p, nil
			}
			p.Again(lookAgain)
			before := s.Now().UTC().Add(-unused)
			if !idle(s, secret, before) {
				return p, nil
			}
			since := secret.Labels[auth.LegacyInvalidSince]
			if _, err := time.Parse(TrackingDay, since); err != nil {
				body, err := json.Marshal(map[string]any{"metadata": map[string]any{
					"uid": secret.UID, "labels": map[string]string{auth.LegacyInvalidSince: s.Now().UTC().Format(TrackingDay)}}})
				if err != nil {
					return p, fmt.Errorf("cannot mark secret %s: %w", key, err)
				}
				p.Add(controller.Patch(secret, "", types.MergePatchType, body))
				return p, nil
			}
			if since < before.Format(TrackingDay) {
				p.Add(controller.Delete(secret))
			}
			return p, nil
		},
	}
}

// idle reports whether the Secret was made automatically and neither used nor
// mounted since the time, and whether that is known for so long.
func idle(s controller.State, secret *corev1.Secret, before time.Time) bool {
	tracking, ok := controller.Get[*corev1.ConfigMap](s, metav1.NamespaceSystem, TrackingConfigMap)
	if !ok {
		return false
	}
	// Tracking began some time on that day.
	began, err := time.Parse(TrackingDay, tracking.Data[TrackingSince])
	if err != nil || began.AddDate(0, 0, 1).After(before) || !secret.CreationTimestamp.Time.Before(before) {
		return false
	}
	if last, ok := secret.Labels[auth.LegacyLastUsed]; ok {
		if _, err := time.Parse(TrackingDay, last); err != nil || last >= before.Format(TrackingDay) {
			return false
		}
	}
	sa, ok := accountOf(s, secret)
	if !ok || !slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret.Name }) {
		return false
	}
	return !slices.ContainsFunc(controller.List[*corev1.Pod](s, secret.Namespace), func(p *corev1.Pod) bool {
		return slices.Contains(auth.PodSecrets(p), secret.Name)
	})
}
