package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/kind"
)

// revision changes the documents' hashes when this package writes them
// differently: clients keep documents by hash.
const revision = "3"

// Service serves the documents of a catalogue.
type Service struct {
	cat   *kind.Catalogue
	build string

	mu   sync.Mutex
	docs map[string]document // by path and media type; guarded by mu
}

// document is a finished answer, gzipped.
type document struct {
	zipped []byte
	hash   string
	made   time.Time
}

// New returns a service for the kinds of cat as they are when asked for.
func New(cat *kind.Catalogue) *Service {
	s := &Service{cat: cat, docs: map[string]document{}}
	if info, ok := debug.ReadBuildInfo(); ok {
		s.build = info.String()
	}
	return s
}

// ServeHTTP answers /openapi/v2, /openapi/v3 and below.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); {
	case path == "/openapi/v3":
		s.index(w, r)
	case path == "/openapi/v2":
		s.serve(w, r, v2Path, s.all())
	case strings.HasPrefix(path, "/openapi/v3/"):
		path = strings.TrimPrefix(path, "/openapi/v3/")
		c, ok := s.contents()[path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		s.serve(w, r, path, c)
	default:
		http.NotFound(w, r)
	}
}

// content is what a document is about: paths that are no resources, and the
// resources of group versions.
type content struct {
	paths     []string
	resources []kind.Match
}

// v2Path is the key of the one document of v2.
const v2Path = "/openapi/v2"

// plainPaths are described besides the API's own.
func plainPaths() []string {
	return []string{".well-known/openid-configuration", "openid/v1/jwks", "version"}
}

// contents are the documents of v3 by path.
func (s *Service) contents() map[string]content {
	out := map[string]content{"api": {paths: []string{"/api/"}}, "apis": {paths: []string{"/apis/"}}}
	for _, p := range plainPaths() {
		out[p] = content{paths: []string{"/" + p + "/"}}
	}
	for _, g := range s.cat.Groups() {
		if g.Name != "" {
			out["apis/"+g.Name] = content{paths: []string{"/apis/" + g.Name + "/"}}
		}
		for _, v := range g.Versions {
			path := groupVersionPath(schema.GroupVersion{Group: g.Name, Version: v.Version})
			out[path[1:]] = content{paths: []string{path + "/"}, resources: v.Resources}
		}
	}
	return out
}

// all is the content of the one document of v2.
func (s *Service) all() content {
	contents := s.contents()
	var c content
	for _, path := range slices.Sorted(maps.Keys(contents)) {
		c.paths = append(c.paths, contents[path].paths...)
		c.resources = append(c.resources, contents[path].resources...)
	}
	return c
}

// hash identifies a document without making it: the program and the resources
// determine it.
func (s *Service) hash(path string, c content) string {
	h := sha512.New()
	fmt.Fprintln(h, revision, s.build, path, c.paths)
	for _, m := range c.resources {
		fmt.Fprintln(h, m.GVK(), m.Kind.Resource, m.Kind.ClusterScoped, m.Kind.Verbs)
		for _, sub := range m.Kind.Subresources {
			fmt.Fprintln(h, sub.Name, sub.Body, sub.Verbs)
		}
	}
	return fmt.Sprintf("%X", h.Sum(nil))
}

func serverRelativeURL(path, hash string) string { return "/openapi/v3/" + path + "?hash=" + hash }

func (s *Service) index(w http.ResponseWriter, _ *http.Request) {
	contents := s.contents()
	var b bytes.Buffer
	b.WriteString(`{"paths":{`)
	for i, path := range slices.Sorted(maps.Keys(contents)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:{%q:%q}", path, "serverRelativeURL", serverRelativeURL(path, s.hash(path, contents[path])))
	}
	b.WriteString("}}")
	// Upstream's type: clients know that it is JSON.
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // the client may have gone
}

// The protobuf forms; clients ask with an @ that no MIME parser takes.
const (
	v2Proto = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	v3Proto = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
)

// accepted chooses JSON or the protobuf form by the first type of the header
// that is offered.
func accepted(header, proto string) (media string, ok bool) {
	if header == "" {
		return mediaJSON, true
	}
	for clause := range strings.SplitSeq(header, ",") {
		media, _, _ := strings.Cut(clause, ";")
		switch media = strings.ReplaceAll(strings.TrimSpace(media), "@", "."); media {
		case mediaJSON, "*/*", "application/*":
			return mediaJSON, true
		case proto:
			return proto, true
		}
	}
	return "", false
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, path string, c content) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	h.Add("Vary", "Accept")
	proto := v3Proto
	if path == v2Path {
		proto = v2Proto
	}
	media, ok := accepted(strings.Join(r.Header.Values("Accept"), ","), proto)
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	doc, err := s.document(path, media, c)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if asked := r.URL.Query().Get("hash"); asked != "" && path != v2Path {
		if asked != doc.hash {
			to := url.URL{Path: "/openapi/v3/" + path, RawQuery: "hash=" + doc.hash}
			http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
			return
		}
		h.Set("Cache-Control", "public, immutable")
		h.Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	h.Set("Etag", `"`+doc.hash+`"`)
	h.Set("Content-Type", media)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		http.ServeContent(w, r, "", doc.made, bytes.NewReader(doc.zipped))
		return
	}
	plain, err := doc.plain()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.ServeContent(w, r, "", doc.made, bytes.NewReader(plain))
}

func (d document) plain() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(d.zipped))
	if err != nil {
		return nil, fmt.Errorf("cannot unpack a document: %w", err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("cannot unpack a document: %w", err)
	}
	return plain, nil
}

// document returns a document, made anew when the kinds have changed.
func (s *Service) document(path, media string, c content) (document, error) {
	hash := s.hash(path, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := path + " " + media
	if doc, ok := s.docs[key]; ok && doc.hash == hash {
		return doc, nil
	}
	plain, err := describe(s.cat.Scheme(), path, media, c)
	if err != nil {
		return document{}, fmt.Errorf("cannot describe %s: %w", path, err)
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(plain); err != nil {
		return document{}, fmt.Errorf("cannot pack the description of %s: %w", path, err)
	}
	if err := z.Close(); err != nil {
		return document{}, fmt.Errorf("cannot pack the description of %s: %w", path, err)
	}
	doc := document{buf.Bytes(), hash, time.Now()}
	s.docs[key] = doc
	return doc, nil
}
