package api

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/client"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// respondList writes a page as a concatenation of the entries' encodings.
func (s *Server) respondList(c *call, q *request, p *page) (err error) {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return err
	}
	_, span := s.span(c.r.Context(), "encode")
	defer func() { telemetry.End(span, err) }()
	c.sendWarnings(q)
	b := s.body(c, http.StatusOK, f.contentType(false))
	items, kind := s.rendering(q.as, f.media), q.as.listKind()
	if f.as == "PartialObjectMetadataList" {
		items = s.metaRendering(f.asVersion, f.media)
		kind = schema.GroupVersionKind{Group: "meta.k8s.io", Version: f.asVersion, Kind: f.as}
	}
	switch {
	case f.as == "Table" && f.media == mediaJSON && !f.pretty:
		err = s.writeTable(b, q, c, f, p)
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
	case f.media == mediaYAML || (f.pretty && f.media == mediaJSON):
		return s.writeListWhole(b, f, items.in(mediaJSON), kind, p)
	case f.protobuf():
		err = writeListProtobuf(b, items, kind, p)
	default:
		err = writeListJSON(b, items, kind, p)
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

func writeListJSON(w io.Writer, items *rendering, kind schema.GroupVersionKind, p *page) error {
	meta, err := json.Marshal(p.meta())
	if err != nil {
		return fmt.Errorf("cannot encode list metadata: %w", err)
	}
	if _, err := fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, kind.Kind, kind.GroupVersion(), meta); err != nil {
		return err
	}
	comma := false
	for data, err := range items.all(p.entries, nil) {
		if err != nil {
			return err
		}
		if comma {
			if _, err := w.Write([]byte{','}); err != nil {
				return err
			}
		}
		comma = true
		if _, err := w.Write(bytes.TrimSuffix(data, []byte("\n"))); err != nil {
			return err
		}
	}
	_, err = w.Write([]byte("]}\n"))
	return err
}

func (s *Server) writeListWhole(b *body, f format, items *rendering, kind schema.GroupVersionKind, p *page) error {
	var j bytes.Buffer
	if err := writeListJSON(&j, items, kind, p); err != nil {
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
	return clientGone(b.whole(data))
}

func writeListProtobuf(w io.Writer, items *rendering, kind schema.GroupVersionKind, p *page) error {
	if items.meta == "" {
		if _, ok := items.as.empty().(runtime.ProtobufMarshaller); !ok {
			return notAcceptable(mediaJSON + ", " + mediaYAML)
		}
	}
	m := p.meta()
	meta, err := m.Marshal()
	if err != nil {
		return fmt.Errorf("cannot encode list metadata: %w", err)
	}
	// The length of all goes first.
	size := fieldSize(len(meta))
	have := items.cached(p.entries)
	var sizeIn func(length int) int
	for i, e := range p.entries {
		var n int
		switch {
		case have[i] == nil:
			n, err = items.size(e)
		case sizeIn == nil:
			if sizeIn, err = rawSizes(have[i]); err == nil {
				n = sizeIn(len(have[i]))
			}
		default:
			n = sizeIn(len(have[i]))
		}
		if err != nil {
			return fmt.Errorf("cannot list %s: %w", e.Key, err)
		}
		size += fieldSize(n)
	}
	tm := runtime.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind}
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
	size -= fieldSize(len(meta))
	var frame []byte
	for data, err := range items.all(p.entries, have) {
		if err != nil {
			return err
		}
		item, err := rawProtobuf(data)
		if err != nil {
			return err
		}
		frame = binary.AppendUvarint(append(frame[:0], tagItems), uint64(len(item)))
		if _, err := w.Write(frame); err != nil {
			return err
		}
		if _, err := w.Write(item); err != nil {
			return err
		}
		size -= len(frame) + len(item)
	}
	if size != 0 {
		return errors.New("an object's encoding is not as long as it said")
	}
	return nil
}

// writeTable writes a page as rows. What a row says of its object is cached,
// its cells are made anew: ages pass.
func (s *Server) writeTable(w io.Writer, q *request, c *call, f format, p *page) error {
	head, err := s.table(q, c, f, nil, p.meta(), true)
	if err != nil {
		return err
	}
	data, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("cannot encode table: %w", err)
	}
	const end = `"rows":[]}`
	data, ok := bytes.CutSuffix(data, []byte(end))
	if !ok {
		return errors.New("cannot encode table: its rows are not last")
	}
	if _, err := w.Write(append(data, end[:len(end)-2]...)); err != nil {
		return err
	}
	rows := s.metaRendering(f.asVersion, mediaJSON)
	include := metav1.IncludeObjectPolicy(c.r.URL.Query().Get("includeObject"))
	if include == metav1.IncludeObject {
		rows = s.rendering(q.as, mediaJSON)
	}
	columns, now := columnsOf(q.kind), time.Now()
	var row []byte
	write := func(e *store.Entry, object []byte) error {
		row = append(row, `{"cells":[`...)
		for i, col := range columns {
			if i > 0 {
				row = append(row, ',')
			}
			var err error
			if row, err = appendCell(row, col.Cell(e.Object, now)); err != nil {
				return fmt.Errorf("cannot encode cell %q of %s: %w", col.Name, e.Key, err)
			}
		}
		row = append(row, `],"object":`...)
		row = append(row, bytes.TrimSuffix(object, []byte("\n"))...)
		row = append(row, '}')
		_, err := w.Write(row)
		row = append(row[:0], ',')
		return err
	}
	if include == metav1.IncludeNone {
		for _, e := range p.entries {
			if err := write(e, []byte("null")); err != nil {
				return err
			}
		}
	} else {
		i := 0
		for data, err := range rows.all(p.entries, nil) {
			if err == nil {
				err = write(p.entries[i], data)
			}
			if err != nil {
				return err
			}
			i++
		}
	}
	_, err = w.Write([]byte("]}\n"))
	return err
}

// appendCell is json.Marshal for what cells hold.
func appendCell(dst []byte, cell any) ([]byte, error) {
	switch v := cell.(type) {
	case string:
		if out, ok := appendText(dst, v); ok {
			return out, nil
		}
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	}
	data, err := json.Marshal(cell)
	return append(dst, data...), err
}

// appendText quotes text as json.Marshal does, where that is easy.
func appendText(dst []byte, text string) ([]byte, bool) {
	out := append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c < 0x20 || c > 0x7e || c == '"' || c == '\\':
			return dst, false
		case c == '<':
			out = append(out, `\u003c`...)
		case c == '>':
			out = append(out, `\u003e`...)
		case c == '&':
			out = append(out, `\u0026`...)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"'), true
}
