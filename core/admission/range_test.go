package admission

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestStaticBand(t *testing.T) {
	for _, tc := range []struct{ size, step, most, want uint64 }{
		{14, 16, 256, 0}, {16, 16, 256, 0}, {254, 16, 256, 16}, {510, 16, 256, 31}, {1<<20 - 2, 16, 256, 256},
		{2768, 32, 128, 86}, {65535, 32, 128, 128},
	} {
		if got := staticBand(tc.size, 16, tc.step, tc.most); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

func TestUsable(t *testing.T) {
	for _, tc := range []struct {
		cidr, ip string
		want     bool
	}{
		{"10.96.0.0/12", "10.96.0.0", false}, {"10.96.0.0/12", "10.96.0.1", true}, {"10.96.0.0/12", "10.111.255.254", true},
		{"10.96.0.0/12", "10.111.255.255", false}, {"10.96.0.0/12", "10.112.0.1", false},
		{"fd00::/112", "fd00::", false}, {"fd00::/112", "fd00::ffff", true}, {"fd00::/112", "10.96.0.1", false},
	} {
		if got := usable(netip.MustParsePrefix(tc.cidr), netip.MustParseAddr(tc.ip)); got != tc.want {
			t.Errorf("%+v: %t", tc, got)
		}
	}
}

func TestOffset(t *testing.T) {
	for _, tc := range []struct {
		from string
		n    uint64
		want string
	}{
		{"10.96.0.1", 255, "10.96.1.0"}, {"fd00::ffff:ffff:ffff:fff0", 0x20, "fd00:0:0:1::10"},
	} {
		if got := offset(netip.MustParseAddr(tc.from), tc.n); got.String() != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

// TestDraw: until the range is full every draw gives a new place, those of the
// band last.
func TestDraw(t *testing.T) {
	const size, band = 100, 20
	used := map[uint64]bool{}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range size {
		at, ok := draw(size, band, random.Uint64N, func(i uint64) bool { return !used[i] })
		if !ok || used[at] || at >= size {
			t.Fatalf("draw %d: %d %t", i, at, ok)
		}
		if inBand := at < band; inBand != (i >= size-band) {
			t.Errorf("draw %d is %d", i, at)
		}
		used[at] = true
	}
	if _, ok := draw(size, band, random.Uint64N, func(i uint64) bool { return !used[i] }); ok {
		t.Error("a full range gives a place")
	}
}
