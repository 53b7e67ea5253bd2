package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// benchPod is about as large as a real pod.
func benchPod(ns, name, node string) *corev1.Pod {
	p := pod(ns, name, node)
	p.Labels = map[string]string{"app": "bench", "pod-template-hash": "5d4f8c7b9"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "bench-5d4f8c7b9", UID: "0b8a9a3e"}}
	for i := range 8 {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: "some value of a variable"})
	}
	p.Status.Phase = corev1.PodRunning
	for _, c := range []corev1.PodConditionType{corev1.PodReady, corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	return p
}

// populate puts n pods straight into etcd and opens a store on them.
func populate(b *testing.B, n int) *Store {
	b.Helper()
	s := open(b, Config{Dir: b.TempDir(), NoFsync: true})
	parallel(b, 64, n, func(i int) error {
		_, err := s.Create(b.Context(), pods, benchPod(fmt.Sprintf("ns%d", i%10), fmt.Sprintf("pod-%06d", i), fmt.Sprintf("node-%d", i%100)))
		return err
	})
	return s
}

// parallel calls f for 0..n-1 from a number of goroutines.
func parallel(b *testing.B, goroutines, n int, f func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkList(b *testing.B) {
	for _, size := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("size=%dk", size/1000), func(b *testing.B) {
			s := populate(b, size)
			b.ReportAllocs()
			var bytes int64
			for b.Loop() {
				snap, err := s.Snapshot(b.Context(), pods, Latest())
				if err != nil {
					b.Fatal(err)
				}
				bytes = 0
				for e := range snap.All("") {
					data, err := e.Encoded("stored", func() ([]byte, error) { return encode(snap.table.kind, e.Object) })
					if err != nil {
						b.Fatal(err)
					}
					bytes += int64(len(data))
				}
			}
			b.SetBytes(bytes)
		})
	}
}

// BenchmarkSelect finds one pod in a hundred by a label, and prints how much
// faster that is than looking at the labels of all.
func BenchmarkSelect(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir(), NoFsync: true})
	parallel(b, 64, 10_000, func(i int) error {
		p := benchPod("ns", fmt.Sprintf("pod-%06d", i), "node")
		p.Labels["group"] = fmt.Sprint(i % 100)
		_, err := s.Create(b.Context(), pods, p)
		return err
	})
	snap, err := s.Snapshot(b.Context(), pods, Latest())
	if err != nil {
		b.Fatal(err)
	}
	f := Filter{Labels: labels.SelectorFromSet(labels.Set{"group": "7"})}
	var all, marked time.Duration
	for b.Loop() {
		start := time.Now()
		found := 0
		for e := range snap.All("") {
			if f.matches(snap.table.kind, e) {
				found++
			}
		}
		all += time.Since(start)
		start = time.Now()
		for range snap.Select(f) {
			found--
		}
		marked += time.Since(start)
		if found != 0 {
			b.Fatalf("%d more are found one way", found)
		}
	}
	b.ReportMetric(float64(marked.Nanoseconds())/float64(b.N), "ns/select")
	b.ReportMetric(float64(all)/float64(marked), "ratio")
}

func BenchmarkGet(b *testing.B) {
	s := populate(b, 1000)
	for name, fresh := range map[string]Freshness{"any": Any(), "latest": Latest()} {
		b.Run("fresh="+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Get(b.Context(), pods, key("ns1", "pod-000001"), fresh); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			s := populate(b, 1000)
			b.ReportAllocs()
			b.ResetTimer()
			parallel(b, goroutines, b.N, func(i int) error {
				k := key(fmt.Sprintf("ns%d", i%1000%10), fmt.Sprintf("pod-%06d", i%1000))
				_, err := s.Update(b.Context(), pods, k, Preconditions{}, func(cur *Entry) (client.Object, error) {
					p := cur.Object.DeepCopyObject().(*corev1.Pod)
					p.Status.Message = fmt.Sprint(i)
					return p, nil
				})
				return err
			})
		})
	}
}

// BenchmarkWatchFanout measures one write until all cursors that it concerns
// have returned it.
func BenchmarkWatchFanout(b *testing.B) {
	for _, by := range []string{"all", "node"} {
		for _, n := range []int{100, 5000} {
			b.Run(fmt.Sprintf("by=%s/cursors=%d", by, n), func(b *testing.B) {
				s := open(b, Config{Dir: b.TempDir(), NoFsync: true})
				if _, err := s.Create(b.Context(), pods, benchPod("ns", "p", "node-0")); err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(b.Context())
				var got, target atomic.Int64
				reached := make(chan struct{}, 1)
				var readers sync.WaitGroup
				concerned := int64(n)
				for i := range n {
					f := Filter{}
					if by == "node" {
						f.Fields = fields.OneTermEqualSelector("spec.nodeName", fmt.Sprintf("node-%d", i))
						concerned = 1
					}
					c, err := s.Watch(ctx, pods, 0, f)
					if err != nil {
						b.Fatal(err)
					}
					readers.Go(func() {
						defer c.Close()
						for {
							if _, err := c.Next(ctx); err != nil {
								return
							}
							if got.Add(1) == target.Load() {
								reached <- struct{}{}
							}
						}
					})
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					target.Store(concerned * int64(i+1))
					if _, err := s.Update(ctx, pods, key("ns", "p"), Preconditions{}, func(cur *Entry) (client.Object, error) {
						p := cur.Object.DeepCopyObject().(*corev1.Pod)
						p.Status.Message = fmt.Sprint(i)
						return p, nil
					}); err != nil {
						b.Fatal(err)
					}
					<-reached
				}
				b.StopTimer()
				cancel()
				readers.Wait()
			})
		}
	}
}

// BenchmarkCreate compares creations with bare etcd puts of the same values,
// from 64 goroutines, with fsync.
func BenchmarkCreate(b *testing.B) {
	const goroutines = 64
	s := open(b, Config{Dir: b.TempDir()})
	var run int
	b.ReportAllocs()
	var puts, creates time.Duration
	for b.Loop() {
		const n = 2000
		run++
		values := make([]string, n)
		objects := make([]*corev1.Pod, n)
		for i := range n {
			objects[i] = benchPod(fmt.Sprintf("ns%d", i%10), fmt.Sprintf("pod-%d-%06d", run, i), "node")
			v, err := encode(testKinds()[0], objects[i])
			if err != nil {
				b.Fatal(err)
			}
			values[i] = string(v)
		}
		start := time.Now()
		parallel(b, goroutines, n, func(i int) error {
			_, err := s.etcd.Put(b.Context(), fmt.Sprintf("/bare/%d/%d", run, i), values[i])
			return err
		})
		puts += time.Since(start)
		start = time.Now()
		parallel(b, goroutines, n, func(i int) error {
			_, err := s.Create(b.Context(), pods, objects[i])
			return err
		})
		creates += time.Since(start)
	}
	n := float64(2000 * run)
	b.ReportMetric(n/puts.Seconds(), "puts/s")
	b.ReportMetric(n/creates.Seconds(), "creates/s")
	b.ReportMetric(puts.Seconds()/creates.Seconds(), "ratio")
}

// BenchmarkOpen starts etcd on a directory and fills the cache from it.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1000, 20000} {
		b.Run(fmt.Sprintf("size=%dk", size/1000), func(b *testing.B) {
			s := populate(b, size)
			shut(b, s)
			b.ReportAllocs()
			for b.Loop() {
				s, err := Open(b.Context(), Config{Dir: s.cfg.Dir, NoFsync: true}, testKinds(), telemetry.Discard())
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
