package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	protoserializer "k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"
)

// codecs read and write objects of one scheme in every media type.
type codecs struct {
	scheme                *runtime.Scheme
	json, strictJSON      runtime.Serializer
	yaml, strictYAML      runtime.Serializer
	protobuf, rawProtobuf runtime.Serializer
	scratch               sync.Pool // *bytes.Buffer
}

func newCodecs(s *runtime.Scheme) *codecs {
	text := func(yaml, strict bool) runtime.Serializer {
		return jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, s, s,
			jsonserializer.SerializerOptions{Yaml: yaml, Strict: strict})
	}
	return &codecs{
		scheme: s,
		json:   text(false, false), strictJSON: text(false, true),
		yaml: text(true, false), strictYAML: text(true, true),
		protobuf:    protoserializer.NewSerializer(s, s),
		rawProtobuf: protoserializer.NewRawSerializer(s, s),
	}
}

// decode reads body into an object of version v. Unknown and duplicate fields
// are errors or warnings as validation says.
func (c *codecs) decode(body []byte, media string, v version, validation string) (o runtime.Object, warnings []string, err error) {
	return c.decodeInto(body, media, v.gvk, v.empty(), validation)
}

func (c *codecs) decodeInto(body []byte, media string, want schema.GroupVersionKind, into runtime.Object, validation string) (runtime.Object, []string, error) {
	d := c.decoder(media, validation)
	// The serializer fills in what the body does not say from into.
	into.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if _, custom := into.(runtime.Unstructured); custom {
		into.GetObjectKind().SetGroupVersionKind(want)
	}
	obj, actual, err := d.Decode(body, &want, into)
	var warnings []string
	if runtime.IsStrictDecodingError(err) && obj != nil {
		switch validation {
		case validateStrict:
		case validateWarn:
			strict, _ := runtime.AsStrictDecodingError(err)
			for _, e := range strict.Errors() {
				// Several of YAML's come as one, under a heading.
				text := strings.TrimPrefix(e.Error(), "yaml: unmarshal errors:\n")
				for line := range strings.Lines(text) {
					warnings = append(warnings, strings.TrimSpace(line))
				}
			}
			err = nil
		default:
			err = nil
		}
	}
	if err != nil {
		return nil, nil, decodeError(err, want, actual, body)
	}
	if actual != nil && *actual != want {
		if actual.Kind == want.Kind {
			return nil, nil, badRequest("the API version in the data (%s) does not match the expected API version (%s)", actual.GroupVersion(), want.GroupVersion())
		}
		return nil, nil, badRequest("%s in version %q cannot be handled as a %s: converting (%s.%s) to (%s): unknown conversion",
			actual.Kind, actual.Version, want.Kind, actual.Version, actual.Kind, internalName(want))
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	return obj, warnings, nil
}

func (c *codecs) decoder(media, validation string) runtime.Decoder {
	strict := validation != validateIgnore
	switch {
	case media == mediaProtobuf:
		return c.protobuf
	case media == mediaYAML && strict:
		return c.strictYAML
	case media == mediaYAML:
		return c.yaml
	case strict:
		return c.strictJSON
	}
	return c.json
}

// internalName is what upstream calls a kind's Go type in its messages.
func internalName(gvk schema.GroupVersionKind) string {
	group, _, _ := strings.Cut(gvk.Group, ".")
	return cmp.Or(group, "core") + "." + gvk.Kind
}

// decodeError words a failure as upstream's handlers do.
func decodeError(err error, want schema.GroupVersionKind, actual *schema.GroupVersionKind, body []byte) error {
	if actual != nil && actual.Kind != "" {
		return badRequest("%s in version %q cannot be handled as a %s: %v", actual.Kind, actual.Version, want.Kind, err)
	}
	return badRequest("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summarize(body, 30))
}

// summarize shows how a body begins, as upstream: text only of JSON objects.
func summarize(body []byte, limit int) string {
	if len(body) == 0 {
		return "<empty>"
	}
	show, more := body, ""
	if len(body) > limit {
		show, more = body[:limit], " ..."
	}
	if body[0] == '{' {
		return string(show) + more
	}
	return hex.EncodeToString(show) + more
}

// encode writes one object with its apiVersion and kind. JSON ends in a newline.
func (c *codecs) encode(o runtime.Object, media string, pretty bool) ([]byte, error) {
	if pretty && media == mediaJSON {
		out, err := json.MarshalIndent(o, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot encode %T: %w", o, err)
		}
		return append(out, '\n'), nil
	}
	as := c.json
	switch media {
	case mediaProtobuf:
		as = c.protobuf
	case mediaYAML:
		as = c.yaml
	}
	// What is returned may be cached for long and has no room to spare.
	b, ok := c.scratch.Get().(*bytes.Buffer)
	if !ok {
		b = &bytes.Buffer{}
	}
	b.Reset()
	if err := as.Encode(o, b); err != nil {
		if protoserializer.IsNotMarshalable(err) {
			return nil, notAcceptable(mediaJSON + ", " + mediaYAML)
		}
		return nil, fmt.Errorf("cannot encode %T: %w", o, err)
	}
	data := bytes.Clone(b.Bytes())
	if b.Cap() <= maxScratch {
		c.scratch.Put(b)
	}
	return data, nil
}

// maxScratch is the largest buffer kept for later.
const maxScratch = 256 << 10

// readBody reads at most limit bytes of the body, for as long as the request
// may take.
func readBody(c *call, limit int64) ([]byte, error) {
	r := c.r
	if r.Body == nil {
		return nil, nil
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, unsupportedMediaType(acceptedMedia)
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(r.Context().Err(), context.DeadlineExceeded) {
			return nil, apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
		}
		var max *http.MaxBytesError
		if errors.As(err, &max) {
			return nil, tooLarge(limit)
		}
		return nil, badRequest("cannot read the request body: %v", err)
	}
	if int64(len(body)) > limit {
		return nil, tooLarge(limit)
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
}

// toJSON turns a YAML or JSON patch or manifest into JSON.
func toJSON(body []byte, strict bool) ([]byte, error) {
	if strict {
		return yaml.YAMLToJSONStrict(body)
	}
	return yaml.YAMLToJSON(body)
}
