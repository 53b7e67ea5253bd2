package job

import (
	"fmt"
	"testing"
)

func TestIndexes(t *testing.T) {
	for _, f := range []struct {
		text  string
		limit int
		want  string
		n     int
	}{
		{"", 5, "", 0},
		{"1,3-5,7", 10, "1,3-5,7", 5},
		{"1,3-5,7", 5, "1,3,4", 3},
		{"0,1", 5, "0,1", 2},
		{"0-2,3", 5, "0-3", 4},
		{"x,2,4-,-3,9-8", 10, "2", 1},
	} {
		x := parseIndexes(f.text, f.limit)
		if x.String() != f.want || x.count() != f.n {
			t.Errorf("%q below %d: %q with %d, want %q with %d", f.text, f.limit, x, x.count(), f.want, f.n)
		}
	}
	x := parseIndexes("1,3-5,9", 100)
	if got := x.with(newIndexes(2, 8, 10)).String(); got != "1-5,8-10" {
		t.Errorf("union: %s", got)
	}
	for i, want := range []bool{false, true, false, true, true, true, false} {
		if x.has(i) != want {
			t.Errorf("has %d: %v", i, !want)
		}
	}
	if got := fmt.Sprint(x.missing(4, 8)); got != "[0 2 6 7]" {
		t.Errorf("missing below 8: %s", got)
	}
	if got := fmt.Sprint(x.missing(9, 11)); got != "[0 2 6 7 8 10]" {
		t.Errorf("missing below 11: %s", got)
	}
	if got := x.common(parseIndexes("0-4,9-20", 100)); got != 4 {
		t.Errorf("in common: %d, want 4", got)
	}
}
