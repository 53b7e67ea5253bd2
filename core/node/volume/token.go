package volume

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

type tokenKey struct {
	pod      types.UID
	account  string
	audience string
	seconds  int64
}

type issued struct {
	token string
	renew time.Time
}

// A token is renewed after 80 % of its life, and after a day.
const (
	renewAfter   = 0.8
	renewAtLeast = 24 * time.Hour
	tokenSeconds = 3600
)

// token adds a service-account token to files and returns when to renew it.
func (m *Manager) token(ctx context.Context, files map[string]file, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection, mode int32) (time.Time, error) {
	key := tokenKey{pod.UID, pod.Spec.ServiceAccountName, p.Audience, tokenSeconds}
	if p.ExpirationSeconds != nil {
		key.seconds = *p.ExpirationSeconds
	}
	now := m.now()
	m.mu.Lock()
	t, ok := m.tokens[key]
	m.mu.Unlock()
	if !ok || !now.Before(t.renew) {
		token, expires, err := m.objects.Token(ctx, pod, p.Audience, key.seconds)
		switch {
		case err == nil:
			life := time.Duration(float64(expires.Sub(now)) * renewAfter)
			t = issued{token, now.Add(min(life, renewAtLeast))}
			m.mu.Lock()
			m.tokens[key] = t
			m.mu.Unlock()
		case !ok:
			return time.Time{}, fmt.Errorf("failed to fetch token: %w", err)
		default: // the old one lives a fifth longer
			t.renew = now.Add(10 * time.Second)
		}
	}
	f := file{data: []byte(t.token), mode: mode}
	if owner := soleUser(pod); owner != nil || fsGroup(pod) != nil {
		f.mode = 0o600
		f.uid = owner
	}
	where, err := inside(p.Path)
	if err != nil {
		return time.Time{}, err
	}
	files[where] = f
	return t.renew, nil
}

func (m *Manager) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.tokens {
		if k.pod == uid {
			delete(m.tokens, k)
		}
	}
}

// soleUser returns the user all containers run as, if the pod says so.
func soleUser(pod *corev1.Pod) *int64 {
	var whole *int64
	if pod.Spec.SecurityContext != nil {
		whole = pod.Spec.SecurityContext.RunAsUser
	}
	var user *int64
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			u := whole
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				u = sc.RunAsUser
			}
			if u == nil || user != nil && *user != *u {
				return nil
			}
			user = u
		}
	}
	return user
}
