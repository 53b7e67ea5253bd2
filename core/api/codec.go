package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

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
				warnings = append(warnings, e.Error())
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
		return nil, nil, badRequest("%s in version %q cannot be handled as a %s: the kind in the data does not match the expected kind", actual.Kind, actual.Version, want.Kind)
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

// decodeError words a failure as upstream's handlers do.
func decodeError(err error, want schema.GroupVersionKind, actual *schema.GroupVersionKind, body []byte) error {
	if actual != nil && actual.Kind != "" {
		return badRequest("%s in version %q cannot be handled as a %s: %v", actual.Kind, actual.Version, want.Kind, err)
	}
	return badRequest("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summarize(body, 30))
}

func summarize(body []byte, limit int) string {
	if len(body) > limit {
		body = body[:limit]
	}
	for _, b := range body {
		if b < 0x09 || b > 0x7e {
			return fmt.Sprintf("% x ...", body)
		}
	}
	return string(body) + " ..."
}

// encode writes one object with its apiVersion and kind.
func (c *codecs) encode(o runtime.Object, media string, pretty bool) ([]byte, error) {
	var b bytes.Buffer
	switch media {
	case mediaProtobuf:
		if err := c.protobuf.Encode(o, &b); err != nil {
			if protoserializer.IsNotMarshalable(err) {
				return nil, notAcceptable(mediaJSON + ", " + mediaYAML)
			}
			return nil, fmt.Errorf("cannot encode %T: %w", o, err)
		}
		return b.Bytes(), nil
	case mediaYAML:
		if err := c.yaml.Encode(o, &b); err != nil {
			return nil, fmt.Errorf("cannot encode %T: %w", o, err)
		}
		return b.Bytes(), nil
	}
	if pretty {
		out, err := json.MarshalIndent(o, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot encode %T: %w", o, err)
		}
		return append(out, '\n'), nil
	}
	if err := c.json.Encode(o, &b); err != nil {
		return nil, fmt.Errorf("cannot encode %T: %w", o, err)
	}
	return b.Bytes(), nil
}

// readBody reads at most limit bytes of the body.
func readBody(r *http.Request, limit int64) ([]byte, error) {
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
