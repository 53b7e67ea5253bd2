package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"binnacle.io/core/kind"
)

const (
	v2Proto = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	v3Proto = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
	// revision changes the documents' hashes when this package writes them
	// differently: clients keep documents by hash.
	revision = "2"
)

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
	etag   string
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
		s.serve(w, r, path, v2Proto)
	case strings.HasPrefix(path, "/openapi/v3/"):
		if _, ok := s.groupVersions()[strings.TrimPrefix(path, "/openapi/v3/")]; !ok {
			http.NotFound(w, r)
			return
		}
		s.serve(w, r, path, v3Proto)
	default:
		http.NotFound(w, r)
	}
}

// groupVersions maps "api/v1" and "apis/apps/v1" to the resources below it.
func (s *Service) groupVersions() map[string][]kind.Match {
	out := map[string][]kind.Match{}
	for _, g := range s.cat.Groups() {
		for _, v := range g.Versions {
			path := "apis/" + g.Name + "/" + v.Version
			if g.Name == "" {
				path = "api/" + v.Version
			}
			out[path] = v.Resources
		}
	}
	return out
}

// hash identifies a group version's document without making it: the program
// and the resources determine it.
func (s *Service) hash(path string, resources []kind.Match) string {
	h := sha512.New()
	fmt.Fprintln(h, revision, s.build, path)
	for _, m := range resources {
		fmt.Fprintln(h, m.GVK(), m.Kind.Resource, m.Kind.Verbs, m.Kind.Subresources)
	}
	return fmt.Sprintf("%X", h.Sum(nil))
}

func (s *Service) index(w http.ResponseWriter, _ *http.Request) {
	paths := map[string]any{}
	for path, resources := range s.groupVersions() {
		paths[path] = map[string]string{"serverRelativeURL": "/openapi/v3/" + path + "?hash=" + s.hash(path, resources)}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"paths": paths})
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, path, proto string) {
	mediaType := "application/json"
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "proto-openapi") {
		mediaType = proto
	}
	doc, err := s.document(path, mediaType)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Vary", "Accept, Accept-Encoding")
	h.Set("Etag", `"`+doc.etag+`"`)
	if r.URL.Query().Get("hash") != "" {
		h.Set("Cache-Control", "public, immutable, max-age=31536000")
	}
	if strings.Contains(r.Header.Get("If-None-Match"), doc.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", strings.Replace(mediaType, "@", ".", 1)) // no MIME parser takes the @ that clients ask with
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		w.Write(doc.zipped)
		return
	}
	z, err := gzip.NewReader(bytes.NewReader(doc.zipped))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(z); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(plain.Bytes())
}

// document returns a document, made anew when the kinds have changed.
func (s *Service) document(path, mediaType string) (document, error) {
	groups := s.groupVersions()
	etag := ""
	if path == "/openapi/v2" {
		var all []kind.Match
		for _, g := range s.cat.Groups() {
			for _, v := range g.Versions {
				all = append(all, v.Resources...)
			}
		}
		etag = s.hash(path, all)
	} else {
		path := strings.TrimPrefix(path, "/openapi/v3/")
		etag = s.hash(path, groups[path])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := path + " " + mediaType
	if doc, ok := s.docs[key]; ok && doc.etag == etag {
		return doc, nil
	}
	plain, err := s.make(path, mediaType, groups)
	if err != nil {
		return document{}, fmt.Errorf("cannot describe %s: %w", path, err)
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(plain); err != nil {
		return document{}, err
	}
	if err := z.Close(); err != nil {
		return document{}, err
	}
	doc := document{buf.Bytes(), etag}
	s.docs[key] = doc
	return doc, nil
}

func (s *Service) make(path, mediaType string, groups map[string][]kind.Match) ([]byte, error) {
	if path == "/openapi/v2" {
		swagger, err := s.swagger(groups)
		if err != nil {
			return nil, err
		}
		b, err := swagger.MarshalJSON()
		if err != nil || mediaType != v2Proto {
			return b, err
		}
		doc, err := openapi_v2.ParseDocument(b)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(doc)
	}
	gv := strings.TrimPrefix(path, "/openapi/v3/")
	swagger, err := s.swagger(map[string][]kind.Match{gv: groups[gv]})
	if err != nil {
		return nil, err
	}
	described := openapiconv.ConvertV2ToV3(swagger)
	wrapRefs(described.Components.Schemas)
	b, err := json.Marshal(described)
	if err != nil || mediaType != v3Proto {
		return b, err
	}
	doc, err := openapi_v3.ParseDocument(b)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(doc)
}

// swagger describes the given group versions.
func (s *Service) swagger(groups map[string][]kind.Match) (*spec.Swagger, error) {
	scheme := s.cat.Scheme()
	lists, err := listMarkers(applyconfigurations.NewTypeConverter(scheme),
		&corev1.Pod{TypeMeta: typeMeta(corev1.SchemeGroupVersion.WithKind("Pod"))})
	if err != nil {
		return nil, err
	}
	d := &definitions{schemas: spec.Definitions{}, lists: lists}
	paths := map[string]spec.PathItem{}
	for _, resources := range groups {
		for _, m := range resources {
			d.describe(paths, m, scheme)
		}
	}
	return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger:     "2.0",
		Info:        &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "v1.37.2"}},
		Definitions: d.schemas,
		Paths:       &spec.Paths{Paths: paths},
	}}, nil
}

var _ http.Handler = (*Service)(nil)

func typeMeta(gvk schema.GroupVersionKind) (t metav1.TypeMeta) {
	t.APIVersion, t.Kind = gvk.ToAPIVersionAndKind()
	return t
}
