package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"binnacle.io/core/client"
)

const (
	tokenMountPath    = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolumePrefix = "kube-api-access-"
	rootCAConfigMap   = "kube-root-ca.crt"
	// tokenSeconds is an hour and a mark: upstream recognizes tokens that
	// were not asked for by their owners by these seven seconds.
	tokenSeconds = 60*60 + 7
)

// ServiceAccount gives every pod an account, its token and its pull secrets.
type ServiceAccount struct {
	only
	c client.Client
	// patience is how long a namespace's default account is waited for: the
	// controller makes it a moment after the namespace.
	patience time.Duration
}

// NewServiceAccount returns the plugin.
func NewServiceAccount(c client.Client) *ServiceAccount {
	return &ServiceAccount{on(podResource, Create), c, 2 * time.Second}
}

func (*ServiceAccount) Name() string { return "ServiceAccount" }

func (p *ServiceAccount) Admit(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || mirror(pod) {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	// The old name of the field, which upstream still fills in.
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	sa, err := p.account(ctx, a.Key.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return refuse(a, fmt.Errorf("error looking up service account %s/%s: %w", a.Key.Namespace, pod.Spec.ServiceAccountName, err))
	}
	if automount(sa, pod) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	return nil
}

// Validate keeps mirror pods, which no account backs, from naming anything
// that needs one.
func (p *ServiceAccount) Validate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !mirror(pod) {
		return nil
	}
	if pod.Spec.ServiceAccountName != "" {
		return refuse(a, fmt.Errorf("a mirror pod may not reference service accounts"))
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Secret != nil {
			return refuse(a, fmt.Errorf("a mirror pod may not reference secrets"))
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return refuse(a, fmt.Errorf("a mirror pod may not use ServiceAccountToken volume projections"))
			}
		}
	}
	return nil
}

func mirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

func (p *ServiceAccount) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	sa, err := client.GetCached[*corev1.ServiceAccount](ctx, p.c, namespace, name)
	if !apierrors.IsNotFound(err) {
		return sa, err
	}
	sa, err = client.Get[*corev1.ServiceAccount](ctx, p.c, namespace, name)
	if !apierrors.IsNotFound(err) {
		return sa, err
	}
	// Upstream says it in the singular, and tools look for that.
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccount"}, name)
	if name != "default" {
		return nil, missing
	}
	return p.await(ctx, namespace, name, missing)
}

// await waits for the account to be made; missing is what is answered when it
// is not.
func (p *ServiceAccount) await(ctx context.Context, namespace, name string, missing error) (*corev1.ServiceAccount, error) {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	w, err := client.WatchOf[*corev1.ServiceAccount](ctx, p.c, "", client.ReadOptions{Namespace: namespace})
	if err != nil {
		return nil, missing
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return nil, missing
		}
		if sa, ok := e.Object.(*corev1.ServiceAccount); ok && sa.Name == name && e.Type != client.Deleted {
			return sa, nil
		}
	}
}

func automount(sa *corev1.ServiceAccount, pod *corev1.Pod) bool {
	if m := pod.Spec.AutomountServiceAccountToken; m != nil {
		return *m
	}
	return sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken
}

// mountToken mounts the projected token volume into every container that has
// nothing at its place.
func mountToken(pod *corev1.Pod) {
	name := ""
	for i := range pod.Spec.Volumes {
		if strings.HasPrefix(pod.Spec.Volumes[i].Name, tokenVolumePrefix) {
			name = pod.Spec.Volumes[i].Name
			break
		}
	}
	have := name != ""
	if !have {
		name = tokenVolumePrefix + utilrand.String(5)
	}
	needed := false
	containers(&pod.Spec, func(c *corev1.Container, _ bool) {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenMountPath }) {
			return
		}
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath})
		needed = true
	})
	if needed && !have {
		pod.Spec.Volumes = append(pod.Spec.Volumes, tokenVolume(name))
	}
}

func tokenVolume(name string) corev1.Volume {
	mode, seconds := int32(0o644), int64(tokenSeconds)
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}}}
}
