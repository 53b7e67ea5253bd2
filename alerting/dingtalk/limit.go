package dingtalk

import (
	"sync"
	"time"
)

// Robots knows when each robot was used, so that all receivers that share one
// keep within its limit together, across reloads. It is safe for concurrent use.
type Robots struct {
	now func() time.Time

	mu   sync.Mutex
	used map[string][]time.Time // by address; times within the last window, oldest first
	mute map[string]time.Time   // until when DingTalk refuses the robot
}

const window = time.Minute

// NewRobots returns the knowledge of no use.
func NewRobots(now func() time.Time) *Robots {
	return &Robots{now: now, used: map[string][]time.Time{}, mute: map[string]time.Time{}}
}

// take records a use of the robot, or returns how long to wait before one.
func (r *Robots) take(robot string, limit int) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wait := r.waitLocked(robot, limit); wait > 0 {
		return wait
	}
	r.used[robot] = append(r.used[robot], r.now())
	return 0
}

// wait returns how long to wait before the robot may be used.
func (r *Robots) wait(robot string, limit int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waitLocked(robot, limit)
}

func (r *Robots) waitLocked(robot string, limit int) time.Duration {
	now := r.now()
	if until := r.mute[robot]; now.Before(until) {
		return until.Sub(now)
	}
	delete(r.mute, robot)
	used := r.used[robot]
	for len(used) > 0 && now.Sub(used[0]) >= window {
		used = used[1:]
	}
	r.used[robot] = used
	if len(used) >= limit {
		return used[len(used)-limit].Add(window).Sub(now)
	}
	return 0
}

// refused records that DingTalk itself says the robot is over its limit.
func (r *Robots) refused(robot string, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute[robot] = r.now().Add(wait)
}
