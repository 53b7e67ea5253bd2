package cronjob

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // spec.timeZone must not depend on what the machine has installed

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"
)

// manyMissed is the number of missed times from which people are warned: the
// clock may be wrong.
const manyMissed = 100

// parse reads the schedule in its time zone. cron panics on some malformed
// zones inside the schedule itself.
func parse(c *batchv1.CronJob) (sched cron.Schedule, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("invalid schedule format: %v", r)
		}
	}()
	spec := c.Spec.Schedule
	if c.Spec.TimeZone != nil && !namesZone(c) {
		spec = "TZ=" + *c.Spec.TimeZone + " " + spec
	}
	return cron.ParseStandard(spec)
}

// namesZone reports whether the schedule itself names a zone, which the API
// refuses today and once took.
func namesZone(c *batchv1.CronJob) bool { return strings.Contains(c.Spec.Schedule, "TZ") }

// zone is where the times of the schedule are told.
func zone(c *batchv1.CronJob) (*time.Location, error) {
	return time.LoadLocation(ptr.Deref(c.Spec.TimeZone, ""))
}

// due returns the latest time of the schedule after earliest and not after now,
// zero when there is none, and about how many there were.
func due(sched cron.Schedule, earliest, now time.Time) (latest time.Time, missed int, err error) {
	first := sched.Next(earliest)
	if first.After(now) {
		return time.Time{}, 0, nil
	}
	second := sched.Next(first)
	if second.After(now) {
		return first, 1, nil
	}
	interval := second.Sub(first).Round(time.Second)
	if interval < time.Second { // a day that never comes, such as February 31st
		return time.Time{}, 0, errors.New("time difference between two schedules is less than 1 second")
	}
	missed = int(now.Sub(first)/interval) + 1
	// Look back from now by whole intervals: "@every" counts from first, and
	// after years of rest not every time must be walked.
	for back := 2; latest.IsZero(); back *= 2 {
		from := earliest
		if missed > back {
			from = first.Add(time.Duration(missed-back) * interval)
		}
		for t := sched.Next(from); !t.After(now); t = sched.Next(t) {
			latest = t
		}
	}
	return latest, missed, nil
}

// since is the time after which the schedule has not been served.
func since(c *batchv1.CronJob) time.Time {
	if last := c.Status.LastScheduleTime; last != nil {
		return last.Time
	}
	return c.CreationTimestamp.Time
}

// settle is added to the next time of the schedule, so that a clock that is set
// back a little does not wake us too early.
const settle = 100 * time.Millisecond

// untilNext is how long it takes to the next time of the schedule.
func untilNext(c *batchv1.CronJob, sched cron.Schedule, now time.Time) time.Duration {
	from := since(c)
	if latest, missed, err := due(sched, from, now); err != nil {
		from = now
	} else if missed > 0 {
		from = latest
	}
	return sched.Next(from).Add(settle).Sub(now)
}
