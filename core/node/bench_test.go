package node_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/node/nodetest"
)

// BenchmarkPodReady creates pods one after the other and reports the time from
// create to Ready as the API shows it.
func BenchmarkPodReady(b *testing.B) {
	s := apitest.Start(b)
	nodetest.Start(b, s.Client, nil, nil)
	var took []time.Duration
	for b.Loop() {
		name := fmt.Sprintf("p%d", len(took))
		began := time.Now()
		create(b, s.Client, pod(name, "sleep"))
		await(b, s.Client, name, "ready", ready)
		took = append(took, time.Since(began))
		b.StopTimer()
		remove(b, s.Client, name)
		b.StartTimer()
	}
	b.Log(took)
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
