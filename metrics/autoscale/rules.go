package autoscale

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// rules are the effective behaviour: the spec's with upstream's defaults.
type rules struct {
	up, down                   autoscalingv2.HPAScalingRules
	upWindow, downWindow       time.Duration
	upTolerance, downTolerance float64
}

func rulesOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior, t Tuning) rules {
	r := rules{downWindow: t.DownscaleStabilization, upTolerance: t.Tolerance, downTolerance: t.Tolerance}
	var up, down *autoscalingv2.HPAScalingRules
	if b != nil {
		up, down = b.ScaleUp, b.ScaleDown
	}
	if up != nil {
		r.up = *up
	}
	if down != nil {
		r.down = *down
	}
	if len(r.up.Policies) == 0 {
		r.up.Policies = []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: defaultUpPods, PeriodSeconds: defaultPolicyPeriod},
			{Type: autoscalingv2.PercentScalingPolicy, Value: defaultUpPercent, PeriodSeconds: defaultPolicyPeriod},
		}
	}
	if len(r.down.Policies) == 0 {
		r.down.Policies = []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PercentScalingPolicy, Value: defaultDownPercent, PeriodSeconds: defaultPolicyPeriod},
		}
	}
	if s := r.up.StabilizationWindowSeconds; s != nil {
		r.upWindow = time.Duration(*s) * time.Second
	}
	if s := r.down.StabilizationWindowSeconds; s != nil {
		r.downWindow = time.Duration(*s) * time.Second
	}
	if q := r.up.Tolerance; q != nil {
		r.upTolerance = q.AsApproximateFloat64()
	}
	if q := r.down.Tolerance; q != nil {
		r.downTolerance = q.AsApproximateFloat64()
	}
	return r
}

// tolerated tells whether a ratio of usage to target is close enough to 1.
func (r *rules) tolerated(ratio float64) bool {
	return ratio >= 1-r.downTolerance && ratio <= 1+r.upTolerance
}

// stabilize picks the size closest to the present one among the
// recommendations of each direction's window, and remembers this one.
func (r *rules) stabilize(m Memory, now time.Time, current, desired int32) (int32, Condition, Memory) {
	if len(m.Recommendations) == 0 {
		// What was before we looked counts as the present size.
		m.Recommendations = []Recommendation{{now, current}}
	}
	upAt, downAt := desired, desired
	upCutoff, downCutoff := now.Add(-r.upWindow), now.Add(-r.downWindow)
	kept := make([]Recommendation, 0, len(m.Recommendations)+1)
	for _, rec := range m.Recommendations {
		if rec.Time.After(upCutoff) {
			upAt = min(upAt, rec.Replicas)
		}
		if rec.Time.After(downCutoff) {
			downAt = max(downAt, rec.Replicas)
		}
		if rec.Time.After(upCutoff) || rec.Time.After(downCutoff) {
			kept = append(kept, rec)
		}
	}
	m.Recommendations = append(kept, Recommendation{now, desired})
	out := current
	out = max(out, upAt)
	out = min(out, downAt)
	cond := Condition{autoscalingv2.AbleToScale, "True", "ReadyForNewScale", "recommended size matches current size"}
	if out != desired {
		if out < desired {
			cond.Reason, cond.Message = "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"
		} else {
			cond.Reason, cond.Message = "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
		}
	}
	return out, cond, m
}

// limit bounds a size by the policies' rates and by minimum and maximum.
func (r *rules) limit(m Memory, now time.Time, current, desired, minimum, maximum int32) (int32, Condition) {
	limited := func(reason, message string) Condition {
		return Condition{autoscalingv2.ScalingLimited, "True", reason, message}
	}
	switch {
	case desired > current:
		most := max(r.upLimit(m, now, current), current)
		bound, cond := maximum, limited("TooManyReplicas", "the desired replica count is more than the maximum replica count")
		if most < maximum {
			bound, cond = most, limited("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
		}
		if desired > bound {
			return bound, cond
		}
	case desired < current:
		least := min(r.downLimit(m, now, current), current)
		bound, cond := minimum, limited("TooFewReplicas", "the desired replica count is less than the minimum replica count")
		if least > minimum {
			bound, cond = least, limited("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
		}
		if desired < bound {
			return bound, cond
		}
	}
	// The size may be right already and yet be what a bound allows.
	if desired > maximum {
		return maximum, limited("TooManyReplicas", "the desired replica count is more than the maximum replica count")
	}
	if desired < minimum {
		return minimum, limited("TooFewReplicas", "the desired replica count is less than the minimum replica count")
	}
	return desired, Condition{autoscalingv2.ScalingLimited, "False", "DesiredWithinRange", "the desired count is within the acceptable range"}
}

func selects(r *autoscalingv2.HPAScalingRules) autoscalingv2.ScalingPolicySelect {
	if r.SelectPolicy == nil {
		return autoscalingv2.MaxChangePolicySelect
	}
	return *r.SelectPolicy
}

// periodStart is how many replicas there were when a policy's period began.
func periodStart(m Memory, now time.Time, current, seconds int32) int32 {
	cutoff := now.Add(-time.Duration(seconds) * time.Second)
	for _, c := range m.Ups {
		if c.Time.After(cutoff) {
			current -= c.Replicas
		}
	}
	for _, c := range m.Downs {
		if c.Time.After(cutoff) {
			current += c.Replicas
		}
	}
	return current
}

func (r *rules) upLimit(m Memory, now time.Time, current int32) int32 {
	choose, result := larger, int32(math.MinInt32)
	switch selects(&r.up) {
	case autoscalingv2.DisabledPolicySelect:
		return current
	case autoscalingv2.MinChangePolicySelect:
		choose, result = smaller, math.MaxInt32
	}
	for _, p := range r.up.Policies {
		start := periodStart(m, now, current, p.PeriodSeconds)
		allowed := start + p.Value
		if p.Type == autoscalingv2.PercentScalingPolicy {
			allowed = clamp(math.Ceil(float64(start) * (1 + float64(p.Value)/100)))
		}
		result = choose(result, allowed)
	}
	return result
}

func (r *rules) downLimit(m Memory, now time.Time, current int32) int32 {
	choose, result := smaller, int32(math.MaxInt32)
	switch selects(&r.down) {
	case autoscalingv2.DisabledPolicySelect:
		return current
	case autoscalingv2.MinChangePolicySelect:
		choose, result = larger, math.MinInt32
	}
	for _, p := range r.down.Policies {
		start := periodStart(m, now, current, p.PeriodSeconds)
		allowed := start - p.Value
		if p.Type == autoscalingv2.PercentScalingPolicy {
			allowed = int32(float64(start) * (1 - float64(p.Value)/100))
		}
		result = choose(result, allowed)
	}
	return result
}

// changed remembers a change of size and forgets those that no policy sees.
func (r *rules) changed(m Memory, now time.Time, from, to int32) Memory {
	longest := int32(0)
	for _, list := range [][]autoscalingv2.HPAScalingPolicy{r.up.Policies, r.down.Policies} {
		for _, p := range list {
			longest = max(longest, p.PeriodSeconds)
		}
	}
	cutoff := now.Add(-time.Duration(longest) * time.Second)
	keep := func(list []Change) []Change {
		var out []Change
		for _, c := range list {
			if c.Time.After(cutoff) {
				out = append(out, c)
			}
		}
		return out
	}
	m.Ups, m.Downs = keep(m.Ups), keep(m.Downs)
	switch {
	case to > from:
		m.Ups = append(m.Ups, Change{now, to - from})
	case to < from:
		m.Downs = append(m.Downs, Change{now, from - to})
	}
	return m
}

func clamp(f float64) int32 {
	return int32(max(math.MinInt32, min(math.MaxInt32, f)))
}

func larger(a, b int32) int32  { return max(a, b) }
func smaller(a, b int32) int32 { return min(a, b) }
