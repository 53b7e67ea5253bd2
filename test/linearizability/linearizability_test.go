package linearizability

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
	"binnacle.io/test/server"
)

var (
	kills   = flag.Int("kills", 10, "how many times to kill the server")
	program = flag.String("binnacle", "", "the program to kill, by path or by its name in bin/; default: a server in this test's binary")
	seed    = flag.Uint64("seed", 0, "seed of what is random; default: the time")
	keepIn  = flag.String("keep", "failed", "folder for histories that fail")
)

const (
	clients    = 6
	roundLimit = 2 * time.Minute
)

func TestKilledServerStaysLinearizable(t *testing.T) {
	n := *kills
	if testing.Short() {
		n = 3
	}
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", s)
	var total, unanswered, lists, events int
	p := newProcess(t, programPath(t))
	start := time.Now()
	current, err := p.up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for round := range n {
		h := newHistory(round)
		r := rand.New(rand.NewPCG(s, uint64(round)))
		if current, err = h.run(t.Context(), p, current, r); err != nil {
			t.Fatalf("round %d of seed %d: %v", round, s, err)
		}
		h.finish()
		for _, op := range h.operations {
			if op.Output.(output).Outcome == unknown {
				unanswered++
			}
		}
		total += len(h.operations)
		lists += len(h.lists)
		for _, w := range h.watches {
			events += len(w.Events)
		}
		if problems := h.check(); len(problems) > 0 {
			dir, err := filepath.Abs(*keepIn)
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range problems[:min(len(problems), 10)] {
				t.Error(problem)
			}
			t.Fatalf("round %d of seed %d is wrong; see %v", round, s, h.keep(t, dir))
		}
		if round%50 == 49 {
			t.Logf("%d kills, %d operations (%d without an answer), %d lists, %d events in %s", round+1, total, unanswered, lists, events, time.Since(start).Round(time.Second))
		}
	}
	t.Logf("%d kills, %d operations (%d without an answer), %d lists, %d events in %s", n, total, unanswered, lists, events, time.Since(start).Round(time.Second))
}

func programPath(t *testing.T) string {
	if *program == "" || filepath.Base(*program) != *program {
		return *program
	}
	path, err := server.Program(*program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run does one round: clients work, the server is killed at a random moment,
// comes up again, clients work on, and everything is read a last time.
func (h *history) run(ctx context.Context, p *process, current *session, r *rand.Rand) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	var live atomic.Pointer[session] // nil while nothing serves
	live.Store(current)

	chore := chores[r.IntN(len(chores))]
	h.touched = chore.touches
	var workers sync.WaitGroup
	working, rest := context.WithCancel(ctx)
	defer workers.Wait()
	defer rest()
	for id := range clients {
		c := &client{id: id, h: h, rand: rand.New(rand.NewPCG(r.Uint64(), uint64(id))), seen: map[string]version{}}
		workers.Go(func() {
			for working.Err() == nil {
				// An operation once begun is finished: only a kill cuts it off.
				if s := live.Load(); s == nil || !c.one(ctx, s) {
					pause(working)
				}
			}
		})
	}
	latest := map[string]*atomic.Pointer[watched]{}
	var watchers sync.WaitGroup
	watching, unwatch := context.WithCancel(ctx)
	defer watchers.Wait()
	defer unwatch()
	for _, kind := range kinds {
		last := &atomic.Pointer[watched]{}
		latest[kind] = last
		watchers.Go(func() {
			for watching.Err() == nil {
				if s := live.Load(); s != nil {
					_ = watch(watching, s, h, kind, last.Store) // ends with the connection
					last.Store(nil)
				}
				pause(watching)
			}
		})
	}

	if err := h.waitAnswers(ctx, 20+r.IntN(200)); err != nil {
		return nil, err
	}
	var keeper sync.WaitGroup
	keeping, enough := context.WithCancel(ctx)
	defer keeper.Wait()
	defer enough()
	keeper.Go(func() { chore.do(keeping, p.dir, h.round) }) // the kill may end it
	within := time.NewTimer(time.Duration(r.IntN(int(25 * time.Millisecond))))
	<-within.C
	live.Store(nil)
	if err := p.kill(); err != nil {
		return nil, err
	}
	enough()
	current.close()
	next, err := p.up(ctx)
	if err != nil {
		return nil, err
	}
	live.Store(next)
	h.mu.Lock()
	so := h.answered
	h.mu.Unlock()
	if err := h.waitAnswers(ctx, so+60); err != nil {
		return nil, err
	}
	rest()
	workers.Wait()

	reader := &client{id: clients, h: h, seen: map[string]version{}}
	for _, kind := range kinds {
		if !reader.list(ctx, next, kind) {
			return nil, ctx.Err()
		}
		h.mu.Lock()
		final := h.lists[len(h.lists)-1].Revision
		h.mu.Unlock()
		w := latest[kind].Load()
		for ; w == nil && ctx.Err() == nil; w = latest[kind].Load() {
			pause(ctx)
		}
		if w == nil {
			return nil, ctx.Err()
		}
		// The last write of all may not concern this kind: make one that does.
		in := input{Object: h.object(kind, 0), Verb: patch, Value: "last." + kind}
		if !reader.do(ctx, next, in) || reader.seen[in.Object].Revision < final {
			in.Verb = create
			reader.do(ctx, next, in)
		}
		if err := w.reach(ctx, reader.seen[in.Object].Revision); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// chores are what an administrator may be doing when the server is killed.
var chores = []struct {
	do func(ctx context.Context, dir string, round int)
	// touches says that objects are written again unchanged, by this or,
	// when the kill came between, by the next start.
	touches bool
}{
	{do: func(context.Context, string, int) {}},
	{do: func(ctx context.Context, dir string, _ int) {
		with(ctx, dir, func(a *store.Admin) error { return a.Defragment(ctx) })
	}},
	{do: func(ctx context.Context, dir string, round int) {
		file := filepath.Join(dir, fmt.Sprintf("snapshot-%d", round))
		with(ctx, dir, func(a *store.Admin) error { return a.Save(ctx, file) })
		_ = os.Remove(file) // there if it came so far
	}},
	{do: func(ctx context.Context, dir string, _ int) {
		with(ctx, dir, func(a *store.Admin) error {
			_, err := a.CompactTo(ctx, 0)
			return err
		})
	}},
	{touches: true, do: func(ctx context.Context, dir string, _ int) {
		_, _ = store.AskToRotateKeys(ctx, doors(dir).ControlSocket)
	}},
}

// with gives up in silence: the kill is to interrupt it.
func with(ctx context.Context, dir string, f func(*store.Admin) error) {
	if a, err := store.Administer(ctx, doors(dir), telemetry.Discard()); err == nil {
		_ = f(a)
		_ = a.Close()
	}
}

// pause waits a moment before asking again.
func pause(ctx context.Context) {
	t := time.NewTimer(2 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
