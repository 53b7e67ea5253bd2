package cronjob

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"binnacle.io/core/controller/controllertest"
)

func TestStories(t *testing.T) { controllertest.Run(t, "", New(prometheus.NewRegistry())) }

func TestDue(t *testing.T) {
	at := func(s string) time.Time {
		got, err := time.Parse("2006-01-02 15:04:05", s)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, f := range []struct {
		schedule, earliest, now, want string
		missed                        int
	}{
		{"0 * * * *", "2026-01-01 10:00:00", "2026-01-01 10:59:59", "", 0},
		{"0 * * * *", "2026-01-01 10:00:00", "2026-01-01 11:00:00", "2026-01-01 11:00:00", 1},
		{"0 * * * *", "2026-01-01 10:00:00", "2026-01-01 14:30:00", "2026-01-01 14:00:00", 4},
		{"0 * * * *", "2016-01-01 00:00:00", "2026-01-01 00:30:00", "2026-01-01 00:00:00", 87672},
		// Dense in the morning and rare after it: the rest of the day has none.
		{"*/5 9 * * *", "2026-01-01 00:00:00", "2026-01-03 20:00:00", "2026-01-03 09:55:00", 709},
		{"*/5 9 1 1 *", "2026-01-01 00:00:00", "2026-12-31 20:00:00", "2026-01-01 09:55:00", 104965},
		{"30 6-16/4 * * 1-5", "2026-01-05 14:30:00", "2026-01-10 12:00:00", "2026-01-09 14:30:00", 26},
		{"@every 90m", "2026-01-01 00:10:00", "2026-01-01 05:00:00", "2026-01-01 04:40:00", 3},
	} {
		sched, err := cron.ParseStandard(f.schedule)
		if err != nil {
			t.Fatal(err)
		}
		got, missed, err := due(sched, at(f.earliest), at(f.now))
		want := time.Time{}
		if f.want != "" {
			want = at(f.want)
		}
		if err != nil || !got.Equal(want) || missed != f.missed {
			t.Errorf("%q since %s at %s: %v, %d missed, error %v; want %s, %d", f.schedule, f.earliest, f.now, got, missed, err, f.want, f.missed)
		}
	}
}
