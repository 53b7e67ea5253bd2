package api

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/client"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// gzipThreshold is the size from which answers are compressed, as upstream.
const gzipThreshold = 128 << 10

// body writes an answer, compressing it when it is big and the client accepts
// that. Nothing reaches the client before gzipThreshold bytes or Close, so an
// error until then can still be answered with a Status.
type body struct {
	c           *call
	code        int
	contentType string
	buf         bytes.Buffer
	gz          *gzip.Writer
	started     bool
}

func (b *body) Write(p []byte) (int, error) {
	if !b.started && b.buf.Len()+len(p) <= gzipThreshold {
		return b.buf.Write(p)
	}
	if err := b.start(true); err != nil {
		return 0, err
	}
	return b.out().Write(p)
}

func (b *body) out() io.Writer {
	if b.gz != nil {
		return b.gz
	}
	return b.c.w
}

func (b *body) start(big bool) error {
	if b.started {
		return nil
	}
	b.started = true
	h := b.c.w.Header()
	h.Set("Content-Type", b.contentType)
	h.Add("Vary", "Accept-Encoding")
	switch {
	case big && acceptsGzip(b.c.r):
		h.Set("Content-Encoding", "gzip")
		gz, err := gzip.NewWriterLevel(b.c.w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		b.gz = gz
	case !big:
		h.Set("Content-Length", strconv.Itoa(b.buf.Len()))
	}
	b.c.w.WriteHeader(b.code)
	_, err := b.out().Write(b.buf.Bytes())
	b.buf = bytes.Buffer{}
	return err
}

func (b *body) Close() error {
	if err := b.start(false); err != nil {
		return err
	}
	if b.gz != nil {
		return b.gz.Close()
	}
	return nil
}

// entryBytes is the entry's object encoded in the client's version: made once,
// shared by all that ask. It has no trailing newline.
func (s *Server) entryBytes(e *store.Entry, v version, media string) ([]byte, error) {
	return e.Encoded(media+";"+v.gvk.Group+"/"+v.gvk.Version, func() ([]byte, error) {
		return s.objectBytes(e.Object, v, media)
	})
}

func (s *Server) objectBytes(o client.Object, v version, media string) ([]byte, error) {
	out, err := v.fromHub(o)
	if err != nil {
		return nil, err
	}
	data, err := s.codecs.encode(out, media, false)
	if err != nil {
		return nil, err
	}
	if media == mediaJSON {
		data = bytes.TrimSuffix(data, []byte("\n"))
	}
	return data, nil
}

func (s *Server) resultBytes(r result, v version, media string) ([]byte, error) {
	if r.entry != nil && r.entry.Object == r.object {
		return s.entryBytes(r.entry, v, media)
	}
	return s.objectBytes(r.object, v, media)
}

func (c *call) sendWarnings(q *request) {
	for _, w := range q.warnings {
		if h, ok := warningHeader(w); ok {
			c.w.Header().Add("Warning", h)
		}
	}
}

// respond writes the object a verb answered.
func (s *Server) respond(c *call, q *request, code int, r result) (err error) {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return err
	}
	_, span := s.span(c.r.Context(), "encode")
	defer func() { telemetry.End(span, err) }()
	c.sendWarnings(q)
	b := &body{c: c, code: code, contentType: f.contentType(false)}
	switch {
	case f.as == "Table":
		table, err := s.table(q, c, f, []client.Object{r.object}, metav1.ListMeta{ResourceVersion: r.object.GetResourceVersion()}, true)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, table)
	case f.as != "":
		return s.writeObject(b, f, partial(r.object, f.asVersion))
	case f.media == mediaYAML || f.pretty:
		out, err := q.as.fromHub(r.object)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, out)
	}
	data, err := s.resultBytes(r, q.as, f.media)
	if err != nil {
		return err
	}
	if _, err = b.Write(data); err != nil {
		return clientGone(err)
	}
	if f.media == mediaJSON {
		_, err = b.Write([]byte{'\n'})
	}
	return clientGone(errors.Join(err, b.Close()))
}

// respondObject writes an object that is no resource of a kind: Status, Scale,
// reviews.
func (s *Server) respondObject(c *call, q *request, code int, o runtime.Object) error {
	// A client that asks for a Table gets a Status as it is; nothing else
	// here has rows.
	_, status := o.(*metav1.Status)
	f, err := negotiate(c.r, func(as, g, v string) bool { return status && as == "Table" && metaTransform("get")(as, g, v) })
	if err != nil {
		return err
	}
	if q != nil {
		c.sendWarnings(q)
	}
	return s.writeObject(&body{c: c, code: code, contentType: f.contentType(false)}, f, o)
}

func (s *Server) writeObject(b *body, f format, o runtime.Object) error {
	data, err := s.codecs.encode(o, f.media, f.pretty)
	if err != nil {
		return err
	}
	_, err = b.Write(data)
	return clientGone(errors.Join(err, b.Close()))
}

// clientGone drops errors of writing to the client: there is nobody to tell.
func clientGone(error) error { return nil }

// respondList writes a page.
func (s *Server) respondList(c *call, q *request, p *page) (err error) {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return err
	}
	_, span := s.span(c.r.Context(), "encode")
	defer func() { telemetry.End(span, err) }()
	c.sendWarnings(q)
	b := &body{c: c, code: http.StatusOK, contentType: f.contentType(false)}
	switch {
	case f.as == "Table":
		objects := make([]client.Object, len(p.entries))
		for i, e := range p.entries {
			objects[i] = e.Object
		}
		table, err := s.table(q, c, f, objects, p.meta(), true)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, table)
	case f.as != "":
		list := &metav1.PartialObjectMetadataList{ListMeta: p.meta()}
		list.APIVersion, list.Kind = "meta.k8s.io/"+f.asVersion, "PartialObjectMetadataList"
		for _, e := range p.entries {
			list.Items = append(list.Items, *partial(e.Object, f.asVersion))
		}
		return s.writeObject(b, f, list)
	case f.media == mediaYAML || (f.pretty && f.media == mediaJSON):
		return s.writeListWhole(b, f, q.as, p)
	case f.protobuf():
		err = s.writeListProtobuf(b, q.as, p)
	default:
		err = s.writeListJSON(b, q.as, p)
	}
	if err == nil {
		return clientGone(b.Close())
	}
	if !b.started {
		return err
	}
	// Half an answer is out: break the connection so that the client sees it.
	if c.r.Context().Err() == nil {
		s.tel.Log.Error("list not encoded", "resource", q.gr().String(), "error", err)
	}
	panic(http.ErrAbortHandler)
}

// respondUnstored writes objects that are not entries of the store.
func (s *Server) respondUnstored(c *call, q *request, revision int64, objects []client.Object) error {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return err
	}
	c.sendWarnings(q)
	b := &body{c: c, code: http.StatusOK, contentType: f.contentType(false)}
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(revision, 10)}
	switch {
	case f.as == "Table":
		table, err := s.table(q, c, f, objects, meta, true)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, table)
	case f.as != "":
		list := &metav1.PartialObjectMetadataList{ListMeta: meta, Items: []metav1.PartialObjectMetadata{}}
		list.APIVersion, list.Kind = "meta.k8s.io/"+f.asVersion, "PartialObjectMetadataList"
		for _, o := range objects {
			list.Items = append(list.Items, *partial(o, f.asVersion))
		}
		return s.writeObject(b, f, list)
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(q.as.listKind())
	list.SetResourceVersion(meta.ResourceVersion)
	for _, o := range objects {
		out, err := q.as.fromHub(o)
		if err != nil {
			return err
		}
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(out)
		if err != nil {
			return fmt.Errorf("cannot encode %s: %w", client.KeyOf(o), err)
		}
		list.Items = append(list.Items, unstructured.Unstructured{Object: m})
	}
	if !f.protobuf() {
		return s.writeObject(b, f, list)
	}
	typed, err := s.kinds.Scheme().New(q.as.listKind())
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(list.UnstructuredContent(), typed, false)
	}
	if err != nil {
		return fmt.Errorf("cannot encode list of %s: %w", q.gr(), err)
	}
	return s.writeObject(b, f, typed)
}

func (s *Server) writeListJSON(w io.Writer, v version, p *page) error {
	meta, err := json.Marshal(p.meta())
	if err != nil {
		return fmt.Errorf("cannot encode list metadata: %w", err)
	}
	if _, err := fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, v.listKind().Kind, v.gvk.GroupVersion(), meta); err != nil {
		return err
	}
	for i, e := range p.entries {
		if i > 0 {
			if _, err := w.Write([]byte{','}); err != nil {
				return err
			}
		}
		data, err := s.entryBytes(e, v, mediaJSON)
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	_, err = w.Write([]byte("]}\n"))
	return err
}

func (s *Server) writeListWhole(b *body, f format, v version, p *page) error {
	var j bytes.Buffer
	if err := s.writeListJSON(&j, v, p); err != nil {
		return err
	}
	var data []byte
	var err error
	if f.media == mediaYAML {
		data, err = yaml.JSONToYAML(j.Bytes())
	} else {
		var out bytes.Buffer
		err = json.Indent(&out, j.Bytes(), "", "  ")
		data = out.Bytes()
	}
	if err != nil {
		return fmt.Errorf("cannot encode list: %w", err)
	}
	_, err = b.Write(data)
	return clientGone(errors.Join(err, b.Close()))
}

// Protobuf wire details: every list message has ListMeta as field 1 and its
// items as field 2; runtime.Unknown has TypeMeta as field 1 and the raw object
// as field 2.
const (
	tagMeta  = 1<<3 | 2
	tagItems = 2<<3 | 2
	tagRaw   = 2<<3 | 2
)

var protobufEnvelope = [4]byte{'k', '8', 's', 0}

// rawProtobuf is the object inside an envelope.
func rawProtobuf(envelope []byte) ([]byte, error) {
	if len(envelope) < 4 {
		return nil, errors.New("protobuf envelope too short")
	}
	var raw []byte
	for rest := envelope[4:]; len(rest) > 0; {
		tag, n := binary.Uvarint(rest)
		if n <= 0 || tag&7 != 2 {
			return nil, errors.New("protobuf envelope malformed")
		}
		rest = rest[n:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, errors.New("protobuf envelope truncated")
		}
		if tag == tagRaw {
			raw = rest[n : n+int(size)]
		}
		rest = rest[n+int(size):]
	}
	return raw, nil
}

func fieldSize(n int) int { return 1 + len(binary.AppendUvarint(nil, uint64(n))) + n }

func appendField(dst []byte, tag byte, data []byte) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	return append(dst, data...)
}

func (s *Server) writeListProtobuf(w io.Writer, v version, p *page) error {
	if _, ok := v.empty().(runtime.ProtobufMarshaller); !ok {
		return notAcceptable(mediaJSON + ", " + mediaYAML)
	}
	m := p.meta()
	meta, err := m.Marshal()
	if err != nil {
		return fmt.Errorf("cannot encode list metadata: %w", err)
	}
	// The length goes first, so all items are looked up before any is
	// written; they are shared bytes, not copies.
	items := make([][]byte, len(p.entries))
	size := fieldSize(len(meta))
	for i, e := range p.entries {
		data, err := s.entryBytes(e, v, mediaProtobuf)
		if err != nil {
			return err
		}
		if items[i], err = rawProtobuf(data); err != nil {
			return fmt.Errorf("cannot list %s: %w", e.Key, err)
		}
		size += fieldSize(len(items[i]))
	}
	tm := runtime.TypeMeta{APIVersion: v.gvk.GroupVersion().String(), Kind: v.listKind().Kind}
	typeMeta, err := tm.Marshal()
	if err != nil {
		return fmt.Errorf("cannot encode list type: %w", err)
	}
	head := append([]byte(nil), protobufEnvelope[:]...)
	head = appendField(head, tagMeta, typeMeta)
	head = append(head, tagRaw)
	head = binary.AppendUvarint(head, uint64(size))
	head = appendField(head, tagMeta, meta)
	if _, err := w.Write(head); err != nil {
		return err
	}
	var frame []byte
	for _, item := range items {
		frame = binary.AppendUvarint(append(frame[:0], tagItems), uint64(len(item)))
		if _, err := w.Write(frame); err != nil {
			return err
		}
		if _, err := w.Write(item); err != nil {
			return err
		}
	}
	return nil
}

// partial is the object's metadata alone.
func partial(o client.Object, version string) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{ObjectMeta: objectMeta(o)}
	p.APIVersion, p.Kind = "meta.k8s.io/"+version, "PartialObjectMetadata"
	return p
}

func objectMeta(o client.Object) metav1.ObjectMeta {
	if a, ok := o.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return *m
		}
	}
	return metav1.ObjectMeta{
		Name: o.GetName(), GenerateName: o.GetGenerateName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
		ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(), CreationTimestamp: o.GetCreationTimestamp(),
		DeletionTimestamp: o.GetDeletionTimestamp(), DeletionGracePeriodSeconds: o.GetDeletionGracePeriodSeconds(),
		Labels: o.GetLabels(), Annotations: o.GetAnnotations(), OwnerReferences: o.GetOwnerReferences(),
		Finalizers: o.GetFinalizers(), ManagedFields: o.GetManagedFields(),
	}
}
