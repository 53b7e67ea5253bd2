package flowcontrol

import (
	"errors"
	"fmt"
	"math"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"binnacle.io/core/kind"
)

// configure puts a configuration in force. Objects that are missing but
// mandatory are supplied, broken levels and the schemas that lead to them or
// nowhere are left out. A level that is gone goes on until its last request
// has.
func (c *Controller) configure(schemas []*flowcontrolv1.FlowSchema, levels []*flowcontrolv1.PriorityLevelConfiguration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := map[string]*level{}
	if t := c.table.Load(); t != nil {
		old = t.levels
	}
	next := &table{levels: map[string]*level{}}
	specs := map[string]*flowcontrolv1.PriorityLevelConfiguration{}
	for _, l := range levels {
		if err := usable(l); err != nil {
			c.tel.Log.Warn("priority level ignored", "name", l.Name, "error", err)
			continue
		}
		specs[l.Name] = l
	}
	for _, m := range kind.MandatoryPriorityLevels() {
		if specs[m.Name] == nil {
			specs[m.Name] = m
		}
	}
	for name, spec := range specs {
		l := old[name]
		if l == nil {
			l = &level{name: name}
		}
		l.quiescing = false
		next.levels[name] = l
		l.uid = string(spec.UID)
	}
	for name, l := range old {
		if next.levels[name] == nil && !l.isIdle() {
			l.quiescing = true
			next.levels[name] = l
		}
	}
	c.divideByShares(next.levels, specs)
	c.compileSchemas(next, specs, schemas)
	c.table.Store(next)
	c.rebalance(next)
	for name := range old {
		if next.levels[name] == nil {
			c.metrics.forget(name)
		}
	}
}

// usable refuses what validation should have; the store may hold it all the
// same.
func usable(l *flowcontrolv1.PriorityLevelConfiguration) error {
	switch s := &l.Spec; {
	case (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) != (l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt):
		return errors.New("only the level exempt is of type Exempt")
	case s.Type == flowcontrolv1.PriorityLevelEnablementExempt:
		return nil
	case s.Type != flowcontrolv1.PriorityLevelEnablementLimited || s.Limited == nil:
		return fmt.Errorf("type %q has no settings", s.Type)
	case s.Limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeReject:
		return nil
	case s.Limited.LimitResponse.Queuing == nil:
		return errors.New("queueing has no settings")
	default:
		q := s.Limited.LimitResponse.Queuing
		if q.Queues < 1 || q.HandSize < 1 || q.HandSize > q.Queues || q.QueueLengthLimit < 1 {
			return fmt.Errorf("%d queues of length %d cannot be dealt in hands of %d", q.Queues, q.QueueLengthLimit, q.HandSize)
		}
		return nil
	}
}

func (l *level) isIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.class.isIdle()
}

// divideByShares gives every level its nominal seats and its queues. Levels
// that quiesce keep theirs, and their part is not given to others.
func (c *Controller) divideByShares(levels map[string]*level, specs map[string]*flowcontrolv1.PriorityLevelConfiguration) {
	var sum int32
	for _, spec := range specs {
		shares, _, _ := commons(&spec.Spec)
		sum += shares
	}
	now := c.now()
	for name, spec := range specs {
		l := levels[name]
		shares, lendable, borrowing := commons(&spec.Spec)
		b := seatBounds(c.cfg.Seats, shares, sum, lendable, borrowing)
		l.exempt = spec.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt
		l.share.bounds, l.share.exempt = b, l.exempt
		var q queuing
		if lim := spec.Spec.Limited; lim != nil && lim.LimitResponse.Queuing != nil {
			x := lim.LimitResponse.Queuing
			q = queuing{queues: int(x.Queues), hand: int(x.HandSize), length: int(x.QueueLengthLimit)}
		}
		l.most = mostSeats(b.nominal, q.hand)
		l.mu.Lock()
		// rebalance sets the limit.
		l.class.configure(now, l.exempt, q, l.class.limit)
		l.mu.Unlock()
	}
}

// commons are a level's shares and percentages, whatever its type.
func commons(s *flowcontrolv1.PriorityLevelConfigurationSpec) (shares, lendable int32, borrowing *int32) {
	value := func(p *int32) int32 {
		if p == nil {
			return 0
		}
		return *p
	}
	if l := s.Limited; l != nil {
		return value(l.NominalConcurrencyShares), value(l.LendablePercent), l.BorrowingLimitPercent
	}
	if e := s.Exempt; e != nil {
		return value(e.NominalConcurrencyShares), value(e.LendablePercent), nil
	}
	return 0, 0, nil
}

func (c *Controller) compileSchemas(t *table, specs map[string]*flowcontrolv1.PriorityLevelConfiguration, schemas []*flowcontrolv1.FlowSchema) {
	add := func(f *flowcontrolv1.FlowSchema) {
		to := f.Spec.PriorityLevelConfiguration.Name
		if specs[to] == nil {
			return
		}
		s := compile(f, t.levels[to])
		s.series = c.metrics.series(to, f.Name)
		t.schemas = append(t.schemas, s)
		if f.Name == flowcontrolv1.FlowSchemaNameCatchAll {
			t.catchAll = s
		}
	}
	for _, f := range schemas {
		add(f)
	}
	for _, m := range kind.MandatoryFlowSchemas() {
		if !slices.ContainsFunc(t.schemas, func(s *flowSchema) bool { return s.name == m.Name }) {
			add(m)
		}
	}
	slices.SortFunc(t.schemas, order)
}

// rebalance divides the seats anew by what was wanted since the last time.
// c.mu is held.
func (c *Controller) rebalance(t *table) {
	now := c.now()
	var shares []*share
	usages := map[string]usage{}
	for name, l := range t.levels {
		l.mu.Lock()
		u := l.class.demand.sample(now)
		l.mu.Unlock()
		usages[name] = u
		l.share.high = u.high
		if u.period > 0 && !math.IsNaN(u.stdev) {
			l.share.smooth = smoothed(l.share.smooth, u)
		}
		shares = append(shares, &l.share)
	}
	c.metrics.fair.Set(borrow(shares))
	for name, l := range t.levels {
		l.mu.Lock()
		l.class.configure(now, l.exempt, l.class.queuing, l.share.limit)
		l.wake(l.class.dispatch(now), now)
		l.mu.Unlock()
		c.metrics.level(name, &l.share, usages[name])
	}
}

// tick rebalances and reports whether a level has finished quiescing.
func (c *Controller) tick() (drained bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.table.Load()
	c.rebalance(t)
	for _, l := range t.levels {
		drained = drained || l.quiescing && l.isIdle()
	}
	return drained
}
