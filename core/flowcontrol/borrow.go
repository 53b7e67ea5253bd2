package flowcontrol

import (
	"math"
	"slices"
)

// bounds are what a level's configuration makes of the server's seats.
type bounds struct{ nominal, lower, upper int }

// share is one level's part in borrowing.
type share struct {
	bounds
	exempt bool
	high   int     // most seats wanted in the last period
	smooth float64 // smoothed demand

	// limit and target are the outcome.
	limit  int
	target float64
}

// seatBounds divides the server's seats by nominal shares. lendable and
// borrowing are percentages; borrowing nil is unlimited.
func seatBounds(server int, shares, sum int32, lendable int32, borrowing *int32) bounds {
	if sum == 0 {
		return bounds{upper: server}
	}
	b := bounds{nominal: int(math.Ceil(float64(server) * float64(shares) / float64(sum)))}
	percent := func(p int32) int { return int(math.Round(float64(b.nominal) * float64(p) / 100)) }
	b.lower = b.nominal - percent(lendable)
	b.upper = b.nominal + server
	if borrowing != nil {
		b.upper = b.nominal + percent(*borrowing)
	}
	return b
}

// borrow sets the limit of every level for the next period: what it surely
// needs, and of the rest a part in proportion to its smoothed demand, within
// its bounds. It returns the fraction of that demand that can be met. Exempt
// levels take what they take, and the others share what is left.
func borrow(levels []*share) float64 {
	total, left, lower, needed := 0, 0, 0, 0
	for _, s := range levels {
		total += s.nominal
	}
	left = total
	var limited []*share
	for _, s := range levels {
		if s.exempt {
			s.limit = max(s.lower, s.high)
			s.target = float64(s.limit)
			left -= s.limit
			continue
		}
		s.limit = max(s.lower, min(s.nominal, s.high))
		s.target = math.Max(float64(s.limit), s.smooth)
		lower += s.lower
		needed += s.limit
		limited = append(limited, s)
	}
	switch {
	case left <= lower:
		for _, s := range limited {
			s.limit = s.lower
		}
		return 0
	case left <= needed:
		part := float64(left-lower) / float64(needed-lower)
		for _, s := range limited {
			s.limit = s.lower + int(math.Round(float64(s.limit-s.lower)*part))
		}
		return 0
	}
	return divide(total, limited)
}

// leastTarget keeps levels that nobody uses from dividing by zero.
const leastTarget = 0.001

// divide finds the fraction f at which the limits, f×target kept between limit
// and upper, sum up to total, or come as near to it as the bounds let them.
func divide(total int, levels []*share) float64 {
	at := func(s *share, f float64) float64 {
		return math.Max(float64(s.limit), math.Min(float64(s.upper), f*math.Max(s.target, leastTarget)))
	}
	sum := func(f float64) (x float64) {
		for _, s := range levels {
			x += at(s, f)
		}
		return x
	}
	// The sum is linear between the fractions at which a bound begins or ceases
	// to hold.
	var bends []float64
	for _, s := range levels {
		t := math.Max(s.target, leastTarget)
		bends = append(bends, float64(s.limit)/t, float64(s.upper)/t)
	}
	slices.Sort(bends)
	f, low := 0.0, 0.0
	for _, b := range bends {
		if f = b; sum(b) >= float64(total) {
			if from, to := sum(low), sum(b); to > from {
				f = low + (b-low)*(float64(total)-from)/(to-from)
			}
			break
		}
		low = b
	}
	limits := make([]int, len(levels))
	for i, s := range levels {
		limits[i] = int(math.Round(at(s, f)))
	}
	for i, s := range levels {
		s.limit = limits[i]
	}
	return f
}
