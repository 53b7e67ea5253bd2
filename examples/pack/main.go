// Command pack makes container images of static programs, without a builder or
// a registry: an archive as docker save writes it, which the agent imports.
//
//	pack --out FILE.tar --tag NAME[,NAME…] --entrypoint /bin/x[,ARG…] [--port 8080] FILE:/PATH[=LINK] …
//
// The same input makes the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	log.SetFlags(0)
	out := flag.String("out", "", "archive to write")
	tags := flag.String("tag", "", "names of the image, separated by commas")
	entrypoint := flag.String("entrypoint", "", "program and arguments, separated by commas")
	env := flag.String("env", "PATH=/bin", "environment, NAME=VALUE separated by commas")
	flag.Parse()
	if *out == "" || *tags == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := pack(*out, strings.Split(*tags, ","), split(*entrypoint), split(*env), flag.Args()); err != nil {
		log.Fatalf("pack: %v", err)
	}
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func pack(out string, tags, entrypoint, env, files []string) error {
	content, err := layerOf(files)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	img, err = mutate.ConfigFile(img, configOf(img, entrypoint, env))
	if err != nil {
		return err
	}
	refs := map[name.Reference]v1.Image{}
	for _, t := range tags {
		ref, err := name.NewTag(t, name.WithDefaultRegistry("docker.io"))
		if err != nil {
			return fmt.Errorf("cannot use tag %q: %w", t, err)
		}
		refs[ref] = img
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	tmp := out + ".tmp"
	if err := tarball.MultiRefWriteToFile(tmp, refs); err != nil {
		return fmt.Errorf("cannot write %s: %w", out, err)
	}
	return os.Rename(tmp, out)
}

func configOf(img v1.Image, entrypoint, env []string) *v1.ConfigFile {
	cf, err := img.ConfigFile()
	if err != nil {
		panic(err) // of an image made in memory
	}
	cf = cf.DeepCopy()
	cf.Architecture, cf.OS = "amd64", "linux"
	cf.Config = v1.Config{Entrypoint: entrypoint, Env: env, WorkingDir: "/"}
	return cf
}

// layerOf makes a tar of FILE:/PATH[=LINK…]: FILE at /PATH, and symbolic links
// to it. FILE may be "dir" for an empty directory.
func layerOf(files []string) ([]byte, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	made := map[string]bool{}
	parents := func(p string) error {
		var dirs []string
		for d := path.Dir(p); d != "/" && d != "."; d = path.Dir(d) {
			dirs = append([]string{d}, dirs...)
		}
		for _, d := range dirs {
			if made[d] {
				continue
			}
			made[d] = true
			if err := tw.WriteHeader(&tar.Header{Name: d[1:] + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, spec := range files {
		src, dst, ok := strings.Cut(spec, ":")
		if !ok || !strings.HasPrefix(dst, "/") {
			return nil, fmt.Errorf("cannot read %q: want FILE:/PATH", spec)
		}
		targets := strings.Split(dst, "=")
		if src == "dir" {
			if err := parents(path.Join(targets[0], "x")); err != nil {
				return nil, err
			}
			continue
		}
		b, err := os.ReadFile(src)
		if err != nil {
			return nil, err
		}
		if err := parents(targets[0]); err != nil {
			return nil, err
		}
		if err := tw.WriteHeader(&tar.Header{Name: targets[0][1:], Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(b))}); err != nil {
			return nil, err
		}
		if _, err := tw.Write(b); err != nil {
			return nil, err
		}
		for _, link := range targets[1:] {
			if err := parents(link); err != nil {
				return nil, err
			}
			if err := tw.WriteHeader(&tar.Header{Name: link[1:], Typeflag: tar.TypeSymlink, Linkname: targets[0], Mode: 0o777}); err != nil {
				return nil, err
			}
		}
	}
	err := tw.Close()
	return buf.Bytes(), err
}
