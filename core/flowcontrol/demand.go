package flowcontrol

import "math"

// demand integrates the seats that a level could use, in use or waited for.
type demand struct {
	seats       int
	high        int     // since the last sample
	since, last instant // of the sample, of the last change
	sum, square float64 // integrals since the sample, in seat-seconds
}

func (d *demand) set(now instant, seats int) {
	d.integrate(now)
	d.seats = seats
	d.high = max(d.high, seats)
}

func (d *demand) integrate(now instant) {
	t, x := now.sub(d.last).Seconds(), float64(d.seats)
	d.sum += x * t
	d.square += x * x * t
	d.last = now
}

// usage is what a level needed in one period.
type usage struct {
	high        int
	mean, stdev float64
	period      float64 // seconds
}

// sample ends a period and begins the next.
func (d *demand) sample(now instant) usage {
	d.integrate(now)
	u := usage{high: d.high, period: now.sub(d.since).Seconds()}
	if u.period > 0 {
		u.mean = d.sum / u.period
		u.stdev = math.Sqrt(math.Max(0, d.square/u.period-u.mean*u.mean))
	}
	d.sum, d.square, d.high, d.since = 0, 0, d.seats, now
	return u
}

// smoothing makes half of a demand that is gone be forgotten in five minutes
// of periods, as upstream.
const smoothing = 0.977

// smoothed follows the demand up at once and down slowly.
func smoothed(before float64, u usage) float64 {
	envelope := u.mean + u.stdev
	return math.Max(envelope, smoothing*before+(1-smoothing)*envelope)
}
