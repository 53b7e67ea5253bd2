package metrics

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"binnacle.io/exporters/cgroup"
)

// The two series of every container that are sampled each second.
const (
	containerCPU    = "container_cpu_usage_seconds_total"
	containerMemory = "container_memory_working_set_bytes"
)

// sampler is the lean path: one-second samples go to the history, from which
// metrics.k8s.io and the autoscaler read, and straight to the database.
type sampler struct {
	cfg        Config
	containers Containers
	db         storage.Appendable
	refused    func(int)

	series  map[string]*leanSeries // by container ID
	samples []cgroup.Sample
	round   uint64
	failing bool
}

type leanSeries struct {
	cpu, memory known
}

// tick takes one round of samples.
func (s *sampler) tick(ctx context.Context) error {
	s.round++
	s.samples = s.containers.Source.Sample(s.samples[:0], s.containers.Inventory.Containers())
	s.containers.History.Add(s.samples)
	u, at, nodeErr := s.containers.Source.Node()
	if nodeErr == nil {
		s.containers.History.AddNode(u, at)
	}
	app := s.db.Appender(ctx)
	refused := 0
	put := func(k *known, ts int64, v float64) {
		ref, err := app.Append(k.ref, k.labels, ts, v)
		if err != nil {
			refused++
			return
		}
		k.ref = ref
	}
	now := time.Now().UnixMilli()
	for i := range s.samples {
		c := &s.samples[i]
		l := s.series[c.Container.ID]
		if l == nil {
			l = s.newSeries(c.Container)
			s.series[c.Container.ID] = l
		}
		l.cpu.round = s.round
		ts := c.Time.UnixMilli()
		put(&l.cpu, ts, float64(c.CPU)/1e9)
		put(&l.memory, ts, float64(c.WorkingSet))
	}
	for id, l := range s.series {
		if l.cpu.round != s.round {
			put(&l.cpu, now, staleNaN)
			put(&l.memory, now, staleNaN)
			delete(s.series, id)
		}
	}
	s.refused(refused)
	if err := app.Commit(); err != nil {
		return err
	}
	return nodeErr
}

func (s *sampler) newSeries(c *cgroup.Container) *leanSeries {
	set := map[string]string{
		"job": "kubelet", "instance": s.cfg.instance("kubelet"),
		"id": c.CgroupPath, "image": c.Image, "name": c.ID, "namespace": c.Namespace, "pod": c.Pod, "container": c.Name,
	}
	for k, v := range s.cfg.targetLabels("kubelet") {
		if _, own := set[k]; !own {
			set[k] = v
		}
	}
	set["metrics_path"] = "/metrics/cadvisor"
	if c.Sandbox {
		set["container"] = ""
	}
	build := func(name, cpu string) known {
		set[labels.MetricName], set["cpu"] = name, cpu
		return known{labels: labels.FromMap(set).WithoutEmpty()}
	}
	return &leanSeries{cpu: build(containerCPU, "total"), memory: build(containerMemory, "")}
}
