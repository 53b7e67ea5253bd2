package audit

import (
	"bytes"
	"encoding/json"
)

// CleanJSON is a body as it is recorded: one JSON value on one line, without
// managedFields if they are omitted. It returns nil for what is no JSON.
func CleanJSON(body []byte, omitManaged bool) []byte {
	if omitManaged {
		var v any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil
		}
		dropManaged(v)
		out, err := json.Marshal(v)
		if err != nil {
			return nil
		}
		return out
	}
	var out bytes.Buffer
	if err := json.Compact(&out, body); err != nil {
		return nil
	}
	return out.Bytes()
}

// dropManaged takes managedFields out of an object, of a list's items and of a
// table's rows.
func dropManaged(v any) {
	o, ok := v.(map[string]any)
	if !ok {
		return
	}
	if meta, ok := o["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
	}
	items, _ := o["items"].([]any)
	for _, i := range items {
		dropManaged(i)
	}
	rows, _ := o["rows"].([]any)
	for _, r := range rows {
		if row, ok := r.(map[string]any); ok {
			dropManaged(row["object"])
		}
	}
}
