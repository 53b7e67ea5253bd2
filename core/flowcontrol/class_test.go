package flowcontrol

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected output of scripts")

// TestScripts runs testdata/*.txtar: "in" says what a level is and when which
// requests arrive, "out" what became of them.
//
//	level seats=2 queues=8 hand=1 length=3
//	50ms bob x3 seats=1 for=10ms patience=1s
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := simulate(t, string(a.Files[0].Data))
			if *update {
				a.Files = []txtar.File{a.Files[0], {Name: "out", Data: []byte(got)}}
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(a.Files[1].Data); got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

// simulated is one request of a script.
type simulated struct {
	name, flow string
	work       work
	lasts      time.Duration
	patience   time.Duration
	at         instant
	waiter     *waiter
}

type happening struct {
	at instant
	do func(now instant)
}

// simulate plays a script and prints what happens.
func simulate(t *testing.T, script string) string {
	t.Helper()
	var (
		k   class
		out strings.Builder
		due []happening
		of  = map[*waiter]*simulated{}
	)
	say := func(now instant, format string, args ...any) {
		fmt.Fprintf(&out, "%v %s\n", time.Duration(now), fmt.Sprintf(format, args...))
	}
	later := func(at instant, f func(instant)) { due = append(due, happening{at, f}) }
	var runs func(now instant, s *simulated)
	dispatch := func(now instant) {
		for _, x := range slices.Clone(k.dispatch(now)) {
			s := of[x]
			say(now, "%s runs after %v", s.name, now.sub(s.at))
			runs(now, s)
		}
	}
	runs = func(now instant, s *simulated) {
		later(now+instant(s.lasts), func(now instant) {
			k.finish(now, s.work, s.waiter)
			later(now+instant(s.work.extra), func(now instant) {
				k.release(now, s.work, s.waiter)
				dispatch(now)
			})
			dispatch(now)
		})
	}
	arrive := func(now instant, s *simulated) {
		s.at = now
		if k.startNow(now, s.work) {
			say(now, "%s runs", s.name)
			runs(now, s)
			return
		}
		x, why := k.enqueue(now, s.work, flowHash("schema", s.flow))
		if x == nil {
			say(now, "%s refused: %s", s.name, why)
			return
		}
		s.waiter, of[x] = x, s
		later(now+instant(s.patience), func(now instant) {
			if !x.dispatched {
				k.leave(now, x)
				say(now, "%s gives up", s.name)
				dispatch(now)
			}
		})
		dispatch(now)
	}
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		opts := map[string]string{}
		for _, w := range words {
			if key, v, ok := strings.Cut(w, "="); ok {
				opts[key] = v
			}
		}
		number := func(key string, d int) (n int) {
			if _, err := fmt.Sscan(opts[key], &n); err != nil {
				return d
			}
			return n
		}
		span := func(text string, d time.Duration) time.Duration {
			if v, err := time.ParseDuration(text); err == nil {
				return v
			}
			return d
		}
		if words[0] == "level" {
			k.configure(0, false, queuing{queues: number("queues", 0), hand: number("hand", 1), length: number("length", 50)}, number("seats", 1))
			continue
		}
		at, count := instant(span(words[0], 0)), 1
		if len(words) > 2 {
			fmt.Sscanf(words[2], "x%d", &count)
		}
		if words[1] == "limit" {
			later(at, func(now instant) {
				k.configure(now, false, k.queuing, number("seats", 1))
				say(now, "limit is %d", k.limit)
				dispatch(now)
			})
			continue
		}
		for i := range count {
			s := &simulated{
				name: fmt.Sprintf("%s/%d", words[1], i+1), flow: words[1], lasts: span(opts["for"], 10*time.Millisecond), patience: span(opts["patience"], time.Hour),
				work: work{seats: number("seats", 1), finalSeats: number("final", 0), extra: span(opts["extra"], 0)},
			}
			later(at, func(now instant) { arrive(now, s) })
		}
	}
	for len(due) > 0 {
		i := 0
		for j := range due {
			if due[j].at < due[i].at {
				i = j
			}
		}
		next := due[i]
		due = slices.Delete(due, i, i+1)
		next.do(next.at)
		if k.used < 0 || k.waiting < 0 || k.busy < 0 || k.active < 0 || k.wanted < 0 {
			t.Fatalf("%v: negative count in %+v", time.Duration(next.at), k)
		}
	}
	if !k.isIdle() || k.busy != 0 || k.active != 0 || k.executing != 0 || k.wanted != 0 {
		fmt.Fprintf(&out, "left: used %d waiting %d busy %d active %d executing %d\n", k.used, k.waiting, k.busy, k.active, k.executing)
	}
	return out.String()
}

func TestDeal(t *testing.T) {
	seen := map[string]bool{}
	for i := range uint64(2000) {
		hash := flowHash("s", fmt.Sprint(i))
		hand := deal(hash, 16, 4, nil)
		sorted := slices.Sorted(slices.Values(hand))
		if len(slices.Compact(slices.Clone(sorted))) != 4 || sorted[0] < 0 || sorted[3] > 15 {
			t.Fatalf("hand %v", hand)
		}
		seen[fmt.Sprint(sorted)] = true
	}
	// 1820 hands exist; 2000 draws meet about two thirds of them.
	if len(seen) < 1000 {
		t.Errorf("only %d different hands", len(seen))
	}
	if h := deal(7, 2, 8, nil); len(h) != 2 {
		t.Errorf("hand larger than the deck: %v", h)
	}
}

func TestBorrow(t *testing.T) {
	level := func(name string, nominal, lower, upper, high int, smooth float64) *share {
		return &share{bounds: bounds{nominal, lower, upper}, high: high, smooth: smooth}
	}
	for _, c := range []struct {
		name   string
		levels []*share
		want   []int
	}{
		{"nobody needs anything: by lower bound", []*share{level("a", 100, 50, 700, 0, 0), level("b", 100, 100, 700, 0, 0)}, []int{67, 133}},
		{"the idle lend to the busy", []*share{level("a", 300, 30, 900, 0, 0), level("b", 300, 150, 900, 600, 600)}, []int{30, 570}},
		{"no more than the upper bound", []*share{level("a", 300, 30, 900, 0, 10), level("b", 300, 150, 350, 600, 600)}, []int{250, 350}},
		{"both busy: their own", []*share{level("a", 300, 30, 900, 500, 500), level("b", 300, 150, 900, 500, 500)}, []int{300, 300}},
		{"a bounded one leaves the rest", []*share{level("a", 200, 0, 200, 0, 0), level("b", 200, 200, 210, 400, 400), level("c", 200, 0, 900, 50, 50)}, []int{1, 210, 389}},
	} {
		total, got, sum := 0, []int(nil), 0
		for _, s := range c.levels {
			total += s.nominal
		}
		borrow(c.levels)
		for _, s := range c.levels {
			got, sum = append(got, s.limit), sum+s.limit
		}
		near := func(a, b int) bool { return math.Abs(float64(a-b)) <= 1 }
		if !slices.EqualFunc(got, c.want, near) || !near(sum, total) {
			t.Errorf("%s: %v (sum %d of %d), want %v", c.name, got, sum, total, c.want)
		}
	}
	exempt := &share{bounds: bounds{0, 0, 600}, exempt: true, high: 500}
	other := level("o", 600, 300, 900, 600, 600)
	borrow([]*share{exempt, other})
	if exempt.limit != 500 || other.limit != 300 {
		t.Errorf("exempt %d, other %d: the exempt take what they take", exempt.limit, other.limit)
	}
}

func TestDemand(t *testing.T) {
	var d demand
	second := instant(time.Second)
	d.set(0, 10)
	d.set(5*second, 20)
	u := d.sample(10 * second)
	if u.high != 20 || u.mean != 15 || math.Abs(u.stdev-5) > 1e-9 {
		t.Errorf("%+v", u)
	}
	if u = d.sample(20 * second); u.high != 20 || u.mean != 20 || u.stdev != 0 {
		t.Errorf("next period: %+v", u)
	}
	s := smoothed(0, usage{mean: 100})
	for range 30 { // five minutes
		s = smoothed(s, usage{})
	}
	if s < 48 || s > 52 {
		t.Errorf("after five minutes %v of 100 is remembered", s)
	}
}

// TestFairness: flows of different eagerness, width and speed wait for one
// level all the time; each gets its part of the seat-seconds.
func TestFairness(t *testing.T) {
	var k class
	k.configure(0, false, queuing{queues: 64, hand: 1, length: 1000}, 30)
	type flow struct {
		hash  uint64
		width int
		lasts time.Duration
		got   float64
	}
	flows := []*flow{
		{width: 1, lasts: 5 * time.Millisecond}, {width: 1, lasts: 50 * time.Millisecond},
		{width: 5, lasts: 5 * time.Millisecond}, {width: 2, lasts: 20 * time.Millisecond},
	}
	type end struct {
		at instant
		x  *waiter
		f  *flow
	}
	var running []end
	of := map[*waiter]*flow{}
	ask := func(now instant, f *flow) {
		x, why := k.enqueue(now, work{seats: f.width}, f.hash)
		if x == nil {
			t.Fatal(why)
		}
		of[x] = f
	}
	start := func(now instant) {
		for _, x := range slices.Clone(k.dispatch(now)) {
			running = append(running, end{now + instant(of[x].lasts), x, of[x]})
		}
	}
	for i, f := range flows {
		f.hash = uint64(i) // a queue of its own
		for range 60 {
			ask(0, f)
		}
	}
	start(0)
	now := instant(0)
	for now < instant(20*time.Second) {
		slices.SortFunc(running, func(a, b end) int { return cmp.Compare(a.at, b.at) })
		e := running[0]
		running, now = running[1:], e.at
		e.f.got += float64(e.f.width) * e.f.lasts.Seconds()
		k.finish(now, e.x.work, e.x)
		k.release(now, e.x.work, e.x)
		ask(now, e.f)
		start(now)
	}
	total := 0.0
	for _, f := range flows {
		total += f.got
	}
	for i, f := range flows {
		if part := f.got / total; part < 0.2 || part > 0.3 {
			t.Errorf("flow %d of width %d and %v got %.0f%% of the seats", i, f.width, f.lasts, 100*part)
		}
	}
}
