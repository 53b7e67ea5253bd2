package flowcontrol

import (
	"math"
	"slices"
	"time"
)

// instant is nanoseconds since the controller was made.
type instant int64

func (i instant) sub(j instant) time.Duration { return time.Duration(i - j) }

// queuing is how a level lets requests wait. With queues == 0 it does not.
type queuing struct{ queues, hand, length int }

// Why a request is refused, as metrics have it.
const (
	reasonFull      = "queue-full"
	reasonLimit     = "concurrency-limit"
	reasonTimeout   = "time-out"
	reasonCancelled = "cancelled"
)

// class is the seats and queues of one priority level: the pure core. It is
// not safe for concurrent use and starts nothing.
//
// Fair queueing for server requests, as KEP-1040 has it: R is the seat-seconds
// that each active queue has been given so far. A queue's next request starts
// at nextR in that time; the queue whose head would finish first is next.
type class struct {
	exempt  bool
	queuing queuing
	limit   int // seats

	used      int // seats in use, of all phases
	executing int // requests, without those that linger
	waiting   int // requests
	wanted    int // seats of waiting requests

	queues []*queue
	robin  int // the queue last served
	deals  int
	r      float64 // seat-seconds
	at     instant // of r
	active int     // queues with requests waiting or executing
	busy   int     // seats of requests in queues, waiting or executing

	demand demand
	out    []*waiter // reused by dispatch
}

// queue is one of a class, and what waits and runs of it.
type queue struct {
	index     int
	waiting   []*waiter
	executing int
	seats     int // of executing ones
	nextR     float64
}

func (q *queue) idle() bool { return len(q.waiting) == 0 && q.executing == 0 }

// waiter is a request in a queue.
type waiter struct {
	work
	ticket   *Ticket // nil in scripts
	queue    *queue
	arrivalR float64
	arrived  instant
	started  instant
	// dispatched is set when it has its seats; ready is closed after that.
	dispatched bool
	ready      chan struct{}
}

// advance brings R up to now: what is active has been served since.
func (c *class) advance(now instant) {
	if c.active > 0 {
		c.r += math.Min(float64(c.busy), float64(c.limit)) / float64(c.active) * now.sub(c.at).Seconds()
	} else {
		c.r = 0
	}
	c.at = now
}

// fits reports whether seats are free for a request of that width.
func (c *class) fits(width int) bool {
	switch {
	case c.exempt:
		return true
	case c.limit <= 0:
		return false
	case width > c.limit:
		return c.used == 0
	}
	return c.used+width <= c.limit
}

// startNow takes seats without queueing; it fails when somebody waits or the
// seats are not free.
func (c *class) startNow(now instant, w work) bool {
	if c.waiting > 0 || !c.fits(w.width()) {
		return false
	}
	c.used += w.width()
	c.executing++
	c.demand.set(now, c.used+c.wanted)
	return true
}

// enqueue puts a request that could not start into the queue of its hand with
// the least work. It returns nil and the reason when it is refused. The caller
// dispatches next.
func (c *class) enqueue(now instant, w work, hash uint64) (*waiter, string) {
	if c.queuing.queues == 0 {
		return nil, reasonLimit
	}
	c.advance(now)
	q := c.choose(hash)
	if len(q.waiting) >= c.queuing.length {
		return nil, reasonFull
	}
	x := &waiter{work: w, queue: q, arrived: now, arrivalR: c.r, ready: make(chan struct{})}
	if q.idle() {
		q.nextR = c.r
		c.active++
	}
	q.waiting = append(q.waiting, x)
	c.waiting++
	c.wanted += w.width()
	c.busy += w.width()
	c.bound(q)
	c.demand.set(now, c.used+c.wanted)
	return x, ""
}

// choose starts its look at another card each time, so that flows with hands
// in common do not prefer the same queue.
func (c *class) choose(hash uint64) *queue {
	var cards [maxHand]int
	hand := deal(hash, min(c.queuing.queues, len(c.queues)), c.queuing.hand, cards[:])
	var best *queue
	least := math.Inf(1)
	for i := range hand {
		q := c.queues[hand[(c.deals+i)%len(hand)]]
		sum := 0.0
		for _, x := range q.waiting {
			sum += x.total()
		}
		if sum < least {
			best, least = q, sum
		}
	}
	c.deals++
	return best
}

// bound keeps a queue from saving up: nothing starts before it arrived.
func (c *class) bound(q *queue) {
	if len(q.waiting) > 0 {
		q.nextR = math.Max(q.nextR, q.waiting[0].arrivalR)
	}
}

// dispatch gives seats to whoever is next until there are none. The result is
// good until the next call.
func (c *class) dispatch(now instant) []*waiter {
	c.out = c.out[:0]
	if c.waiting == 0 {
		return nil
	}
	c.advance(now)
	for c.waiting > 0 && c.used < c.limit {
		q := c.next()
		x := q.waiting[0]
		if !c.fits(x.width()) {
			break
		}
		c.robin = q.index
		c.remove(x)
		x.dispatched, x.started = true, now
		c.used += x.width()
		c.executing++
		q.executing++
		q.seats += x.width()
		q.nextR += x.total()
		c.bound(q)
		c.out = append(c.out, x)
	}
	return c.out
}

// next is the queue whose head finishes first; of equal ones that which comes
// first after the one served last.
func (c *class) next() *queue {
	var best *queue
	finish := math.Inf(1)
	for i := range c.queues {
		q := c.queues[(c.robin+1+i)%len(c.queues)]
		if len(q.waiting) == 0 {
			continue
		}
		if f := q.nextR + q.waiting[0].total(); f < finish {
			best, finish = q, f
		}
	}
	return best
}

// remove takes x out of its queue, which stays active.
func (c *class) remove(x *waiter) {
	q := x.queue
	i := slices.Index(q.waiting, x)
	q.waiting = slices.Delete(q.waiting, i, i+1)
	c.waiting--
	c.wanted -= x.width()
}

// leave is for a request that no longer waits.
func (c *class) leave(now instant, x *waiter) {
	c.advance(now)
	c.remove(x)
	c.busy -= x.width()
	if x.queue.idle() {
		c.active--
	}
	c.bound(x.queue)
	c.demand.set(now, c.used+c.wanted)
}

// finish is for a request that has been served; its queue (nil if it had
// none) is charged for the time it really took. Its seats are to be released
// after w.extra.
func (c *class) finish(now instant, w work, x *waiter) {
	c.executing--
	if x == nil {
		return
	}
	c.advance(now)
	q := x.queue
	q.executing--
	q.nextR -= float64(w.seats) * (estimatedService - now.sub(x.started)).Seconds()
	if q.idle() {
		c.active--
	}
	c.bound(q)
}

// release gives the seats back. The caller dispatches next.
func (c *class) release(now instant, w work, x *waiter) {
	if x != nil {
		c.advance(now)
		x.queue.seats -= w.width()
		c.busy -= w.width()
	}
	c.used -= w.width()
	c.demand.set(now, c.used+c.wanted)
}

// configure changes queues and limit. Queues that are too many are kept while
// something is in them. The caller dispatches next.
func (c *class) configure(now instant, exempt bool, q queuing, limit int) {
	c.advance(now)
	c.exempt, c.queuing, c.limit = exempt, q, limit
	for len(c.queues) < q.queues {
		c.queues = append(c.queues, &queue{index: len(c.queues)})
	}
	for n := len(c.queues); n > q.queues && c.queues[n-1].idle() && c.queues[n-1].seats == 0; n-- {
		c.queues = c.queues[:n-1]
	}
	if c.robin >= len(c.queues) {
		c.robin = 0
	}
}

func (c *class) isIdle() bool { return c.waiting == 0 && c.used == 0 }
