package api

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// columnsOf are those of the kind, or those of all kinds that have none.
func columnsOf(k *kind.Kind) []kind.Column {
	if len(k.Columns) > 0 {
		return k.Columns
	}
	return kind.DefaultColumns()
}

// table shows objects as rows. definitions is false for all but the first event
// of a watch.
func (s *Server) table(q *request, c *call, f format, objects []client.Object, meta metav1.ListMeta, definitions bool) (*metav1.Table, error) {
	include := metav1.IncludeObjectPolicy(c.r.URL.Query().Get("includeObject"))
	switch include {
	case "":
		include = metav1.IncludeMetadata
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
	default:
		return nil, badRequest("includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", include)
	}
	columns := columnsOf(q.kind)
	t := &metav1.Table{ListMeta: meta, Rows: make([]metav1.TableRow, 0, len(objects))}
	t.APIVersion, t.Kind = "meta.k8s.io/"+f.asVersion, "Table"
	if definitions {
		for _, col := range columns {
			t.ColumnDefinitions = append(t.ColumnDefinitions, col.TableColumnDefinition)
		}
	} else {
		t.ColumnDefinitions = []metav1.TableColumnDefinition{}
	}
	now := time.Now()
	for _, o := range objects {
		row := metav1.TableRow{Cells: make([]any, len(columns))}
		for i, col := range columns {
			row.Cells[i] = col.Cell(o, now)
		}
		switch include {
		case metav1.IncludeMetadata:
			raw, err := json.Marshal(partial(o, f.asVersion))
			if err != nil {
				return nil, fmt.Errorf("cannot encode metadata of %s: %w", client.KeyOf(o), err)
			}
			row.Object = runtime.RawExtension{Raw: raw}
		case metav1.IncludeObject:
			raw, err := s.rendering(q.as, mediaJSON).object(o)
			if err != nil {
				return nil, err
			}
			row.Object = runtime.RawExtension{Raw: raw}
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}
