package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// standIns are the images that tutorials' manifests name: small programs that
// listen where the manifest says.
var standIns = map[string]standIn{
	"tomcat":                          {program: "frontend-1", env: []string{"PORT=8080"}},
	"kubeguide/redis-master":          {program: "store"},
	"kubeguide/guestbook-redis-slave": {program: "store", args: []string{"--replica-of", "redis-master:6379"}},
	"kubeguide/guestbook-php-frontend": {program: "frontend-1", env: []string{
		"PORT=80", "PRIMARY=redis-master:6379", "REPLICA=redis-slave:6379"}},
	"senyint/im-web":  {program: "frontend-1", env: []string{"PORT=80"}},
	"busybox":         {busybox: true},
	"library/busybox": {busybox: true}, // as Docker Hub has it
}

type standIn struct {
	program   string // in bin/images
	args, env []string
	busybox   bool
}

// startRegistry serves the stand-ins as :latest, under any registry's name.
func startRegistry(programs string) (*httptest.Server, error) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	for repo, s := range standIns {
		if err := s.push(srv.URL, repo, programs); err != nil {
			srv.Close()
			return nil, fmt.Errorf("cannot make stand-in image %s: %w", repo, err)
		}
	}
	return srv, nil
}

func (s standIn) push(server, repo, programs string) error {
	files := map[string]string{}
	entrypoint := []string{"/bin/" + s.program}
	if s.busybox {
		path, err := exec.LookPath("busybox")
		if err != nil {
			return fmt.Errorf("%w: install busybox-static", err)
		}
		files["bin/busybox"] = path
		entrypoint = nil
	} else {
		files["bin/"+s.program] = filepath.Join(programs, s.program)
	}
	layer, err := layerOf(files, s.busybox)
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	img, err = mutate.Config(img, v1.Config{
		Entrypoint: entrypoint, Cmd: s.args, Env: append([]string{"PATH=/bin"}, s.env...),
	})
	if err != nil {
		return err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return err
	}
	ref, err := name.ParseReference(strings.TrimPrefix(server, "http://")+"/"+repo+":latest", name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, img)
}

func layerOf(files map[string]string, applets bool) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
		return nil, err
	}
	for dst, src := range files {
		b, err := os.ReadFile(src)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: dst, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(b))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(b); err != nil {
			return nil, err
		}
	}
	if applets {
		for _, a := range []string{"sh", "cat", "ls", "echo", "sleep", "env", "tar", "wget", "nslookup", "true", "false"} {
			if err := w.WriteHeader(&tar.Header{Name: "bin/" + a, Typeflag: tar.TypeSymlink, Linkname: "/bin/busybox"}); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}
