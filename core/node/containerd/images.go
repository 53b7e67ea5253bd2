package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"binnacle.io/core/telemetry"
)

const (
	// Namespace is containerd's namespace of everything Kubernetes.
	Namespace   = "k8s.io"
	snapshotter = "overlayfs"
	// archiveLabel on an image holds the SHA-256 of the archive it came
	// from, by which an archive that was imported before is known.
	archiveLabel    = "binnacle.io/archive-sha256"
	parallelImports = 4
)

// Importer loads image archives into a running containerd.
type Importer struct {
	tel      *telemetry.Component
	duration *prometheus.HistogramVec
}

// NewImporter returns an importer that measures itself.
func NewImporter(tel *telemetry.Component) *Importer {
	i := &Importer{tel: tel, duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "binnacle_node_image_import_duration_seconds", Help: "Time to bring one image archive into the runtime, by result.",
		Buckets: prometheus.ExponentialBuckets(.005, 2.5, 10)}, []string{"result"})}
	tel.Registry.MustRegister(i.duration)
	return i
}

// Import brings every archive (*.tar; OCI layout or docker save) found in dirs
// into the runtime, several at a time. Archives whose images are there already
// are skipped. A missing directory is no error; a broken archive does not keep
// the others out.
func (i *Importer) Import(ctx context.Context, socket string, dirs []string) error {
	var files []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*.tar"))
		if err != nil {
			return fmt.Errorf("cannot search %q for images: %w", dir, err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil
	}
	c, err := client.New(socket, client.WithDefaultNamespace(Namespace))
	if err != nil {
		return fmt.Errorf("cannot connect to containerd at %q: %w", socket, err)
	}
	defer c.Close()
	known, err := i.known(ctx, c)
	if err != nil {
		return err
	}
	var (
		mu     sync.Mutex
		failed []error
		g      errgroup.Group
	)
	g.SetLimit(parallelImports)
	for _, file := range files {
		g.Go(func() error {
			if err := i.importFile(ctx, c, file, known); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
			return nil
		})
	}
	g.Wait()
	return errors.Join(failed...)
}

// known returns the archive digests that images already in the store carry.
func (i *Importer) known(ctx context.Context, c *client.Client) (map[string]bool, error) {
	list, err := c.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list images: %w", err)
	}
	known := map[string]bool{}
	for _, img := range list {
		if d := img.Labels[archiveLabel]; d != "" {
			known[d] = true
		}
	}
	return known, nil
}

func (i *Importer) importFile(ctx context.Context, c *client.Client, file string, known map[string]bool) (err error) {
	began := time.Now()
	result := "imported"
	ctx, span := i.tel.Tracer.Start(ctx, "import image", trace.WithAttributes(attribute.String("file.path", file)))
	defer func() {
		if err != nil {
			result = "failed"
		}
		i.duration.WithLabelValues(result).Observe(time.Since(began).Seconds())
		telemetry.End(span, err)
	}()
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("cannot open image archive: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("cannot read image archive %q: %w", file, err)
	}
	digest := hex.EncodeToString(h.Sum(nil))[:63] // a label value's length
	if known[digest] {
		result = "present"
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read image archive %q: %w", file, err)
	}
	imgs, err := c.Import(ctx, f, client.WithImageLabels(map[string]string{archiveLabel: digest}))
	if err != nil {
		return fmt.Errorf("cannot import image archive %q: %w", file, err)
	}
	for _, img := range imgs {
		if err := client.NewImage(c, img).Unpack(ctx, snapshotter); err != nil {
			return fmt.Errorf("cannot unpack image %q of %q: %w", img.Name, file, err)
		}
		// An image that was there before under this name keeps its labels.
		img.Labels = map[string]string{archiveLabel: digest}
		if _, err := c.ImageService().Update(ctx, images.Image{Name: img.Name, Target: img.Target, Labels: img.Labels}, "labels."+archiveLabel); err != nil {
			return fmt.Errorf("cannot label image %q: %w", img.Name, err)
		}
		i.tel.Log.Info("imported image", "image", img.Name, "file", file, "duration", time.Since(began))
	}
	return nil
}
