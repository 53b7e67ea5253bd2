package api

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The media types of objects.
const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

const acceptedMedia = mediaJSON + ", " + mediaYAML + ", " + mediaProtobuf

// format is how an answer is written.
type format struct {
	media string
	// as is the kind the client wants the answer turned into: "Table",
	// "PartialObjectMetadata", "PartialObjectMetadataList", or "" for the
	// object itself; asVersion is v1 or v1beta1.
	as, asVersion string
	group         string
	pretty        bool
}

func (f format) protobuf() bool { return f.media == mediaProtobuf }

// contentType is that of an answer, or of a stream of watch events.
func (f format) contentType(stream bool) string {
	if stream && f.media == mediaProtobuf {
		return mediaProtobuf + ";stream=watch"
	}
	return f.media
}

// clause is one alternative of an Accept header.
type clause struct {
	media  string
	params map[string]string
	q      float64
}

func parseAccept(header string) []clause {
	if len(header) > 4096 {
		header = header[:4096]
	}
	var out []clause
	for part := range strings.SplitSeq(header, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		media, params, err := mime.ParseMediaType(part)
		if err != nil && media == "" {
			continue
		}
		c := clause{media: media, params: params, q: 1}
		if v, ok := params["q"]; ok {
			if q, err := strconv.ParseFloat(v, 64); err == nil {
				c.q = q
			}
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b clause) int { return cmp.Compare(b.q, a.q) })
	return out
}

// negotiate chooses the format of the answer to r. allow says which
// transformations the endpoint offers.
func negotiate(r *http.Request, allow func(as, group, version string) bool) (format, error) {
	pretty := isTrue(r.URL.Query(), "pretty")
	header := strings.Join(r.Header.Values("Accept"), ",")
	if header == "" {
		return format{media: mediaJSON, pretty: pretty}, nil
	}
	shaped := false
	for _, c := range parseAccept(header) {
		f := format{pretty: pretty}
		switch c.media {
		case mediaJSON, "*/*":
			f.media = mediaJSON
		case mediaYAML:
			f.media = mediaYAML
		case mediaProtobuf:
			f.media = mediaProtobuf
		default:
			continue
		}
		if p, ok := c.params["pretty"]; ok {
			f.pretty = p == "1" || p == "true"
		}
		if as := c.params["as"]; as != "" {
			if allow == nil || !allow(as, c.params["g"], c.params["v"]) {
				shaped = true
				continue
			}
			f.as, f.group, f.asVersion = as, c.params["g"], c.params["v"]
		}
		return f, nil
	}
	if shaped {
		// The media type is one of ours, what shall be in it is not.
		return format{}, onlyAccepted()
	}
	return format{}, notAcceptable(acceptedMedia)
}

// metaTransform allows the transformations of objects for the given verb.
func metaTransform(verb string) func(as, group, version string) bool {
	return func(as, group, version string) bool {
		if group != "meta.k8s.io" || (version != "v1" && version != "v1beta1") {
			return false
		}
		switch as {
		case "Table":
			return true
		case "PartialObjectMetadata":
			return verb != "list"
		case "PartialObjectMetadataList":
			return verb == "list" || verb == "deletecollection"
		}
		return false
	}
}

// bodyMedia is the media type of a request body, JSON when not said.
func bodyMedia(r *http.Request) (string, error) {
	ct := r.Header.Get("Content-Type")
	if ct == "" {
		return mediaJSON, nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil && media == "" {
		return "", unsupportedMediaType(acceptedMedia)
	}
	switch media {
	case mediaJSON, mediaYAML, mediaProtobuf:
		return media, nil
	}
	return "", unsupportedMediaType(acceptedMedia)
}

func acceptsGzip(r *http.Request) bool {
	for _, c := range parseAccept(strings.Join(r.Header.Values("Accept-Encoding"), ",")) {
		if c.media == "gzip" && c.q > 0 {
			return true
		}
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" {
			return true
		}
	}
	return false
}
