package dashboards

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// dist is what `npm run build` made of ui.
//
//go:embed dist
var dist embed.FS

func embedded() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(fmt.Sprintf("dashboards: the embedded page is not there: %v", err)) // a constant, valid path
	}
	return sub
}

// asset is one file of the page.
type asset struct {
	body        []byte
	contentType string
	tag         string
	cache       string
}

// assets serves the built page from memory. Types are written down here: what
// the machine's mime tables say must not matter.
type assets map[string]*asset

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json",
}

func newAssets(files fs.FS) assets {
	out := assets{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		a := &asset{body: body, contentType: contentTypes[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:12]) + `"`, cache: "no-cache"}
		if a.contentType == "" {
			return fmt.Errorf("no content type for %s", name)
		}
		// Vite puts a hash of the content into names below assets.
		if strings.HasPrefix(name, "assets/") {
			a.cache = "public, max-age=31536000, immutable"
		}
		out["/"+name] = a
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("dashboards: cannot read the embedded page: %v", err)) // the build is broken
	}
	out["/"] = out["/index.html"]
	return out
}

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	f := a[r.URL.Path]
	if f == nil {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}
