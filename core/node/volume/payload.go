package volume

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/node/podspec"
)

// file is one file of a volume made from API objects.
type file struct {
	data []byte
	mode int32
	// uid, when not nil, owns the file.
	uid *int64
}

const defaultMode = 0o644

// payload collects the files of a volume and when they need to be made anew.
func (m *Manager) payload(ctx context.Context, r Request, v *corev1.Volume) (map[string]file, time.Time, error) {
	files := map[string]file{}
	ns := r.Pod.Namespace
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		return files, time.Time{}, m.configMap(ctx, files, ns, s.Name, s.Items, s.Optional, modeOf(s.DefaultMode))
	case v.Secret != nil:
		s := v.Secret
		return files, time.Time{}, m.secret(ctx, files, ns, s.SecretName, s.Items, s.Optional, modeOf(s.DefaultMode))
	case v.DownwardAPI != nil:
		return files, time.Time{}, downward(files, r, v.DownwardAPI.Items, modeOf(v.DownwardAPI.DefaultMode))
	}
	mode := modeOf(v.Projected.DefaultMode)
	var next time.Time
	for i := range v.Projected.Sources {
		s := &v.Projected.Sources[i]
		var err error
		switch {
		case s.ConfigMap != nil:
			err = m.configMap(ctx, files, ns, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode)
		case s.Secret != nil:
			err = m.secret(ctx, files, ns, s.Secret.Name, s.Secret.Items, s.Secret.Optional, mode)
		case s.DownwardAPI != nil:
			err = downward(files, r, s.DownwardAPI.Items, mode)
		case s.ServiceAccountToken != nil:
			var renew time.Time
			if renew, err = m.token(ctx, files, r.Pod, s.ServiceAccountToken, mode); next.IsZero() || !renew.IsZero() && renew.Before(next) {
				next = renew
			}
		case s.ClusterTrustBundle != nil:
			err = fmt.Errorf("projected clusterTrustBundle: %w", ErrUnsupported)
		case s.PodCertificate != nil:
			err = fmt.Errorf("projected podCertificate: %w", ErrUnsupported)
		}
		if err != nil {
			return nil, time.Time{}, err
		}
	}
	return files, next, nil
}

func modeOf(m *int32) int32 {
	if m == nil {
		return defaultMode
	}
	return *m
}

func (m *Manager) configMap(ctx context.Context, files map[string]file, ns, name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	cm, err := m.objects.ConfigMap(ctx, ns, name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional != nil && *optional {
			return nil
		}
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return choose(files, data, items, optional, mode, "configmap")
}

func (m *Manager) secret(ctx context.Context, files map[string]file, ns, name string, items []corev1.KeyToPath, optional *bool, mode int32) error {
	s, err := m.objects.Secret(ctx, ns, name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional != nil && *optional {
			return nil
		}
		return err
	}
	return choose(files, s.Data, items, optional, mode, "secret")
}

// choose takes all keys, or those of items under their paths.
func choose(files map[string]file, data map[string][]byte, items []corev1.KeyToPath, optional *bool, mode int32, kind string) error {
	if len(items) == 0 {
		for k, v := range data {
			files[k] = file{data: v, mode: mode}
		}
		return nil
	}
	for _, it := range items {
		v, ok := data[it.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("%s references non-existent %s key: %s", kind, map[string]string{"configmap": "config", "secret": "secret"}[kind], it.Key)
		}
		f := file{data: v, mode: mode}
		if it.Mode != nil {
			f.mode = *it.Mode
		}
		p, err := inside(it.Path)
		if err != nil {
			return err
		}
		files[p] = f
	}
	return nil
}

// inside refuses paths that lead out of the volume or into its bookkeeping.
func inside(p string) (string, error) {
	clean := path.Clean(p)
	if path.IsAbs(clean) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("invalid path %q", p)
	}
	if strings.HasPrefix(clean, "..") {
		return "", fmt.Errorf("invalid path: must not start with '..': %q", p)
	}
	return clean, nil
}

func downward(files map[string]file, r Request, items []corev1.DownwardAPIVolumeFile, mode int32) error {
	for i := range items {
		it := &items[i]
		var (
			value string
			err   error
		)
		switch {
		case it.FieldRef != nil:
			value, err = podspec.Field(r.Pod, r.Addresses, it.FieldRef.FieldPath)
		case it.ResourceFieldRef != nil:
			value, err = podspec.ResourceField(r.Pod, nil, it.ResourceFieldRef, r.Allocatable)
		}
		if err != nil {
			return err
		}
		f := file{data: []byte(value), mode: mode}
		if it.Mode != nil {
			f.mode = *it.Mode
		}
		p, err := inside(it.Path)
		if err != nil {
			return err
		}
		files[p] = f
	}
	return nil
}
