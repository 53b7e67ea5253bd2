package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/runtime"
)

// imageError is why a container's image cannot be used.
type imageError struct {
	reason, message string
}

func (e *imageError) Error() string { return e.reason + ": " + e.message }

// ensureImage gets a container's image by its pull policy and records events
// as upstream does.
func (w *worker) ensureImage(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (runtime.Image, error) {
	policy := c.ImagePullPolicy
	if policy == "" {
		policy = corev1.PullIfNotPresent
	}
	if policy != corev1.PullAlways {
		img, ok, err := w.a.runtime.Image(ctx, c.Image)
		if err != nil {
			w.event(pod, c, corev1.EventTypeWarning, "InspectFailed", "Failed to inspect image %q: %s", c.Image, runtime.Detail(err))
			return img, &imageError{"ImageInspectError", fmt.Sprintf("Failed to inspect image %q: %s", c.Image, runtime.Detail(err))}
		}
		if ok {
			w.event(pod, c, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", c.Image)
			return img, nil
		}
		if policy == corev1.PullNever {
			msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
			w.event(pod, c, corev1.EventTypeWarning, "ErrImageNeverPull", "%s", msg)
			w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: ErrImageNeverPull")
			return runtime.Image{}, &imageError{"ErrImageNeverPull", msg}
		}
	}
	w.event(pod, c, corev1.EventTypeNormal, "Pulling", "Pulling image %q", c.Image)
	began := time.Now()
	if err := w.pull(ctx, pod, c.Image); err != nil {
		if ctx.Err() != nil {
			return runtime.Image{}, ctx.Err()
		}
		msg := fmt.Sprintf("failed to pull image %q: %s", c.Image, runtime.Detail(err))
		w.event(pod, c, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", c.Image, runtime.Detail(err))
		w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		return runtime.Image{}, &imageError{"ErrImagePull", msg}
	}
	took := time.Since(began).Truncate(time.Millisecond)
	img, ok, err := w.a.runtime.Image(ctx, c.Image)
	if err != nil || !ok {
		return img, &imageError{"ErrImagePull", fmt.Sprintf("image %q is gone after it was pulled", c.Image)}
	}
	w.event(pod, c, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.", c.Image, took, took, img.Size)
	return img, nil
}

// pull tries the pod's pull secrets that fit the registry, then without.
func (w *worker) pull(ctx context.Context, pod *corev1.Pod, image string) error {
	creds, err := w.pullCredentials(ctx, pod, image)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range creds {
		_, err := w.a.runtime.Pull(ctx, image, c, nil)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(creds) > 0 {
		return errors.Join(errs...)
	}
	_, err = w.a.runtime.Pull(ctx, image, nil, nil)
	return err
}

// dockerConfig is the content of an image pull secret.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (w *worker) pullCredentials(ctx context.Context, pod *corev1.Pod, image string) ([]*runtime.Credentials, error) {
	var out []*runtime.Credentials
	for _, ref := range pod.Spec.ImagePullSecrets {
		s, err := w.a.objects.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			w.event(pod, nil, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name)
			continue
		}
		found, err := credentials(s, image)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// credentials returns what a pull secret has for the image's registry.
func credentials(s *corev1.Secret, image string) ([]*runtime.Credentials, error) {
	var cfg dockerConfig
	var err error
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		err = json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &cfg)
	case corev1.SecretTypeDockercfg:
		err = json.Unmarshal(s.Data[corev1.DockerConfigKey], &cfg.Auths)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read image pull secret \"%s/%s\": %w", s.Namespace, s.Name, err)
	}
	registry := registryOf(image)
	var out []*runtime.Credentials
	for host, a := range cfg.Auths {
		if !fits(host, registry, image) {
			continue
		}
		c := &runtime.Credentials{Username: a.Username, Password: a.Password, Server: host, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
		if c.Username == "" && a.Auth != "" {
			b, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return nil, fmt.Errorf("cannot read image pull secret \"%s/%s\": %w", s.Namespace, s.Name, err)
			}
			c.Username, c.Password, _ = strings.Cut(string(b), ":")
		}
		out = append(out, c)
	}
	return out, nil
}

func registryOf(image string) string {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "docker.io"
	}
	return host
}

// fits matches a key of a docker configuration ("registry", "https://registry/v1/",
// "registry/path", "*.registry") with an image.
func fits(key, registry, image string) bool {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(key, "/")
	if host == "index.docker.io" {
		host, path = "docker.io", ""
	}
	if wild, ok := strings.CutPrefix(host, "*."); ok {
		_, rest, _ := strings.Cut(registry, ".")
		if rest != wild {
			return false
		}
	} else if host != registry {
		return false
	}
	path = strings.Trim(path, "/")
	if path == "" || path == "v1" || path == "v2" {
		return true
	}
	return strings.HasPrefix(image, registry+"/"+path)
}
