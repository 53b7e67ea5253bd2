package api

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/kind"
)

func TestRawSizes(t *testing.T) {
	codecs := newCodecs(kind.Builtin().Scheme())
	encode := func(payload int) []byte {
		cm := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, Data: map[string]string{"k": strings.Repeat("x", payload)}}
		data, err := codecs.encode(cm, mediaProtobuf, false)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	size, err := rawSizes(encode(10))
	if err != nil {
		t.Fatal(err)
	}
	// Around where the lengths of the lengths change.
	for _, around := range []int{0, 128, 16 << 10, 2 << 20} {
		for payload := max(0, around-40); payload < around+8; payload++ {
			data := encode(payload)
			raw, err := rawProtobuf(data)
			if err != nil {
				t.Fatal(err)
			}
			if got := size(len(data)); got != len(raw) {
				t.Fatalf("an envelope of %d bytes holds %d, not %d", len(data), len(raw), got)
			}
		}
	}
}

// record keeps what is written, and how long the writes were.
type record struct {
	bytes.Buffer
	sizes []int
}

func (r *record) Write(p []byte) (int, error) {
	r.sizes = append(r.sizes, len(p))
	return r.Buffer.Write(p)
}

func TestCellsAreMarshalled(t *testing.T) {
	for _, cell := range []any{"", "web-1", "<none>", "a & b", `"quoted"`, `back\slash`, "tab\t", "é", "\u2028", "\xff", int64(-3), int64(1 << 40), true, 7, nil} {
		want, err := json.Marshal(cell)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendCell([]byte("["), cell)
		if err != nil || string(got) != "["+string(want) {
			t.Errorf("%v: %s, %v; want %s", cell, got[1:], err, want)
		}
	}
}

func TestChunksFillRecords(t *testing.T) {
	var pool sync.Pool
	for _, piece := range []int{1, 1000, chunkBytes, chunkBytes + 1, 3*chunkBytes + 5} {
		text := strings.Repeat("0123456789", 10_000)
		var to record
		w := &chunks{to: &to, buf: borrow(&pool, chunkBytes)}
		for r := strings.NewReader(text); ; {
			p := make([]byte, piece)
			n, err := io.ReadFull(r, p)
			_, _ = w.Write(p[:n])
			if err != nil {
				break
			}
		}
		w.flush()
		if to.String() != text {
			t.Errorf("pieces of %d arrive changed", piece)
		}
		for i, n := range to.sizes[:len(to.sizes)-1] {
			if n != chunkBytes {
				t.Errorf("pieces of %d: write %d is of %d bytes", piece, i, n)
			}
		}
		giveBack(&pool, w.buf)
	}
}
