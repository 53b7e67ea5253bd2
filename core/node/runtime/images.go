package runtime

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/telemetry"
)

// Image looks an image up by name, digest or ID. ok is false when the runtime
// does not hold it.
func (c *CRI) Image(ctx context.Context, name string) (img Image, ok bool, err error) {
	r, err := call(ctx, c, "image_status", c.img.ImageStatus, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return Image{}, false, fmt.Errorf("cannot look up image %q: %w", name, err)
	}
	if r.Image == nil {
		return Image{}, false, nil
	}
	return imageOf(r.Image), true, nil
}

// Credentials open a registry.
type Credentials struct {
	Username, Password, Server, IdentityToken, RegistryToken string
}

// Pull fetches an image and returns its reference.
func (c *CRI) Pull(ctx context.Context, name string, auth *Credentials, sandbox *cri.PodSandboxConfig) (ref string, err error) {
	ctx, span := c.tel.Tracer.Start(ctx, "pull image", trace.WithAttributes(attribute.String("container.image.name", name)))
	defer func() { telemetry.End(span, err) }()
	req := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}, SandboxConfig: sandbox}
	if auth != nil {
		req.Auth = &cri.AuthConfig{Username: auth.Username, Password: auth.Password,
			ServerAddress: auth.Server, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken}
	}
	r, err := call(ctx, c, "pull_image", c.img.PullImage, req)
	if err != nil {
		return "", fmt.Errorf("cannot pull image %q: %w", name, err)
	}
	return r.ImageRef, nil
}

// Images lists what the runtime holds.
func (c *CRI) Images(ctx context.Context) ([]Image, error) {
	r, err := call(ctx, c, "list_images", c.img.ListImages, &cri.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("cannot list images: %w", err)
	}
	out := make([]Image, len(r.Images))
	for i, m := range r.Images {
		out[i] = imageOf(m)
	}
	return out, nil
}

// RemoveImage deletes an image.
func (c *CRI) RemoveImage(ctx context.Context, id string) error {
	if _, err := call(ctx, c, "remove_image", c.img.RemoveImage, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: id}}); err != nil {
		return fmt.Errorf("cannot remove image %q: %w", id, err)
	}
	return nil
}

// ImageFS returns the used bytes and the mount point of each file system that
// holds images.
func (c *CRI) ImageFS(ctx context.Context) (map[string]uint64, error) {
	r, err := call(ctx, c, "image_fs_info", c.img.ImageFsInfo, &cri.ImageFsInfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the image file system: %w", err)
	}
	out := map[string]uint64{}
	for _, f := range r.ImageFilesystems {
		out[f.GetFsId().GetMountpoint()] = f.GetUsedBytes().GetValue()
	}
	return out, nil
}

func imageOf(m *cri.Image) Image {
	img := Image{ID: m.Id, Tags: m.RepoTags, Digests: m.RepoDigests, Size: m.Size, Pinned: m.Pinned, User: m.Username}
	if m.Uid != nil {
		img.UID = &m.Uid.Value
	}
	return img
}
