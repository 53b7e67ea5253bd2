package metrics

import (
	"context"
	"testing"
	"time"
)

func TestQueriesAreBounded(t *testing.T) {
	q := newQuerySlots(1)
	if _, err := q.Insert(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := q.Insert(short, "second"); err == nil {
		t.Fatal("a second query runs beside the first of one")
	}
	q.Delete(0)
	if _, err := q.Insert(t.Context(), "third"); err != nil {
		t.Errorf("a freed slot cannot be taken: %v", err)
	}
	if q.Close() != nil || q.Close() != nil {
		t.Error("closing twice failed")
	}
	if _, err := q.Insert(t.Context(), "late"); err == nil {
		t.Error("a query waits for a slot of a closed engine")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{1: "1.0", .05: "0.05", 1e9: "1e+09", 10: "10.0"} {
		if got := number(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}
