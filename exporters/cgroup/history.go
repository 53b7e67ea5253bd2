package cgroup

import (
	"sync"
	"time"
)

// historyLen bounds what is kept: at one sample a second, a good minute.
const historyLen = 64

// Rate is how much a container or node used over a recent window.
type Rate struct {
	// Container is nil for the node.
	Container *Container
	// Cores is CPU seconds per second over Window, which ends at Time.
	Cores  float64
	Window time.Duration
	Time   time.Time
	// CPU, Memory and WorkingSet are the latest counter and values.
	Usage
}

// History keeps the latest minute of samples for questions about rates. It is
// safe for concurrent use.
type History struct {
	mu    sync.RWMutex
	rings map[string]*ring // by container ID
	node  ring
	round uint64
}

type point struct {
	t time.Time
	u Usage
}

type ring struct {
	container *Container
	points    [historyLen]point
	next, n   int
	round     uint64
}

// NewHistory returns an empty history.
func NewHistory() *History { return &History{rings: map[string]*ring{}} }

// Add records one round of samples. Containers that are not in it are
// forgotten: they have ended.
func (h *History) Add(samples []Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.round++
	for i := range samples {
		s := &samples[i]
		r := h.rings[s.Container.ID]
		if r == nil {
			r = &ring{}
			h.rings[s.Container.ID] = r
		}
		r.container, r.round = s.Container, h.round
		r.add(point{s.Time, s.Usage})
	}
	if len(h.rings) != len(samples) {
		for id, r := range h.rings {
			if r.round != h.round {
				delete(h.rings, id)
			}
		}
	}
}

// AddNode records a sample of the whole machine.
func (h *History) AddNode(u Usage, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.node.add(point{t, u})
}

// Containers appends to dst the rate of each container over the window (or
// since its start, when younger) and returns it. Containers about which
// nothing can be said yet are left out.
func (h *History) Containers(dst []Rate, window time.Duration) []Rate {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, r := range h.rings {
		if rate, ok := r.rate(window); ok {
			dst = append(dst, rate)
		}
	}
	return dst
}

// Container returns one container's rate.
func (h *History) Container(id string, window time.Duration) (Rate, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	r := h.rings[id]
	if r == nil {
		return Rate{}, false
	}
	return r.rate(window)
}

// Node returns the machine's rate over the window.
func (h *History) Node(window time.Duration) (Rate, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.node.rate(window)
}

func (r *ring) add(p point) {
	r.points[r.next] = p
	r.next = (r.next + 1) % historyLen
	r.n = min(r.n+1, historyLen)
}

// back returns the i-th latest point; 0 is the newest.
func (r *ring) back(i int) point { return r.points[(r.next-1-i+2*historyLen)%historyLen] }

func (r *ring) rate(window time.Duration) (Rate, bool) {
	if r.n == 0 {
		return Rate{}, false
	}
	last := r.back(0)
	base := last
	for i := 1; i < r.n; i++ {
		p := r.back(i)
		// Ticks are not exact: a twentieth of the window is let pass.
		if last.t.Sub(p.t) > window+window/20 {
			break
		}
		base = p
	}
	if c := r.container; c != nil && !c.StartedAt.IsZero() && c.StartedAt.Before(base.t) && last.t.Sub(c.StartedAt) <= window {
		// A cgroup's counter begins at zero when its container starts.
		base = point{t: c.StartedAt}
	}
	d := last.t.Sub(base.t)
	if d <= 0 || last.u.CPU < base.u.CPU {
		return Rate{}, false
	}
	return Rate{
		Container: r.container, Window: d, Time: last.t, Usage: last.u,
		Cores: float64(last.u.CPU-base.u.CPU) / float64(d),
	}, true
}
