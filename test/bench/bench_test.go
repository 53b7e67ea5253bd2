package main

import (
	"strings"
	"testing"
	"testing/iotest"
)

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name         string
		goal         goal
		theirs, ours []float64
		times        float64
		met          string
	}{
		{"lower is better", goal{figure: "x", times: 10}, []float64{1000, 1200, 1100}, []float64{100, 90, 110}, 11, "met"},
		{"not enough", goal{figure: "x", times: 10}, []float64{1000}, []float64{101}, 1000.0 / 101, "MISSED"},
		{"higher is better", goal{figure: "x", higher: true, times: 3}, []float64{100}, []float64{300}, 3, "met"},
		{"a bound", goal{figure: "x", atMost: 8}, nil, []float64{9, 7, 8}, 0, "met"},
		{"nothing may be missing", goal{figure: "watch.missing"}, nil, []float64{1}, 0, "MISSED"},
		{"no target", goal{figure: "x"}, []float64{4}, []float64{2}, 2, "-"},
	} {
		if got := tt.goal.judge("ms", tt.theirs, tt.ours, nil); got.Times != tt.times || got.Met != tt.met {
			t.Errorf("%s: %v times, %s; want %v, %s", tt.name, got.Times, got.Met, tt.times, tt.met)
		}
	}
}

func TestReadUntilFindsTheMarkAcrossReads(t *testing.T) {
	stream := strings.Repeat("x", 200_000) + "the mark"
	for name, r := range map[string]*strings.Reader{"whole": strings.NewReader(stream), "cut": strings.NewReader(stream[:len(stream)-1])} {
		err := readUntil(iotest.OneByteReader(r), []byte("the mark"))
		if (err == nil) != (name == "whole") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProcesses(t *testing.T) {
	pids, err := processes("a=1,b=2+3")
	if err != nil || len(pids) != 3 {
		t.Errorf("%v, %v", pids, err)
	}
	for _, bad := range []string{"1", "a=x", "a=name:no-such-program-anywhere"} {
		if _, err := processes(bad); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
}

func TestStatusField(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t    10 kB\n")
	if rss, peak := statusField(status, "VmRSS:"), statusField(status, "VmHWM:"); rss != 10<<10 || peak != 12<<10 {
		t.Errorf("%d, %d", rss, peak)
	}
}
