package autoscale

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/exporters/cgroup"
)

// A step of load must lead to a larger size in less than five seconds, with
// the samples and the window as they are by default.
func TestReaction(t *testing.T) {
	cfg := Config{}.withDefaults()
	for _, busy := range []float64{.6, .75, 1, 2} { // cores used after the step, of 1 requested
		t.Run(fmt.Sprintf("to %v", busy), func(t *testing.T) {
			h := cgroup.NewHistory()
			list := pods(3)
			var containers []*cgroup.Container
			for i, p := range list {
				p.UID = types.UID(fmt.Sprint("u", i))
				containers = append(containers, &cgroup.Container{ID: p.Name, Pod: p.Name, PodUID: string(p.UID), Name: "c", StartedAt: t0.Add(-time.Hour)})
			}
			var cpuTime float64
			memory := Memory{}
			const step = 30 // the second after which load rises
			c := &Controller{cfg: cfg}
			for second := range 60 {
				now := t0.Add(time.Duration(second) * time.Second)
				if second > step {
					cpuTime += busy
				} else {
					cpuTime += .05
				}
				var samples []cgroup.Sample
				for _, k := range containers {
					samples = append(samples, cgroup.Sample{Container: k, Time: now, Usage: cgroup.Usage{CPU: uint64(cpuTime * 1e9)}})
				}
				h.Add(samples)
				c.rates = h.Containers(c.rates[:0], cfg.Window)
				d := Decide(State{Now: now, Tuning: tuning, Spec: spec(3, 20, cpu(50)), Replicas: 3, Observed: 3, Pods: list,
					Readings: []Reading{c.resource(list, "cpu", "")}, Memory: memory})
				memory = d.Memory
				if d.Rescale {
					if second <= step {
						t.Fatalf("scaled to %d before the step: %+v", d.Desired, d.Proposals)
					}
					if took := second - step; took >= 5 && busy > .6 || took > 5 {
						t.Errorf("it took %d s to decide on %d", took, d.Desired)
					}
					return
				}
			}
			t.Fatal("never scaled")
		})
	}
}
