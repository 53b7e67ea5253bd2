package api_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/audit"
	"binnacle.io/core/client"
)

// transports returns n connections' worth of clients that speak HTTP/2.
func transports(b *testing.B, cfg *rest.Config, n int) []http.RoundTripper {
	b.Helper()
	out := make([]http.RoundTripper, n)
	for i := range out {
		c := rest.CopyConfig(cfg)
		c.DisableCompression = true
		// A dialer of its own keeps client-go from sharing connections.
		c.Dial = dialer()
		t, err := rest.TransportFor(c)
		if err != nil {
			b.Fatal(err)
		}
		out[i] = t
	}
	return out
}

// processorTime is what this process has used, clients and server together.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func openTLS(ctx context.Context, t http.RoundTripper, url, accept string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	w, err := t.RoundTrip(r)
	if err == nil && w.StatusCode != http.StatusOK {
		w.Body.Close()
		err = fmt.Errorf("GET %s: %s", url, w.Status)
	}
	return w, err
}

// BenchmarkGetTLS reads one object by 64 clients on 4 connections.
func BenchmarkGetTLS(b *testing.B) {
	s := apitest.Start(b, apitest.WithAuditPolicy(silent(b)))
	fillPods(b, s, 1)
	const clients = 64
	conns := transports(b, s.REST, 4)
	b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
		b.ReportAllocs()
		before := processorTime(b)
		var all sync.WaitGroup
		took := make([][]time.Duration, clients)
		b.ResetTimer()
		for i := range clients {
			all.Go(func() {
				for range b.N/clients + 1 {
					start := time.Now()
					w, err := openTLS(b.Context(), conns[i%len(conns)], s.URL+"/api/v1/namespaces/default/pods/p-000000", "application/vnd.kubernetes.protobuf")
					if err != nil {
						b.Error(err)
						return
					}
					_, err = io.Copy(io.Discard, w.Body)
					w.Body.Close()
					if err != nil {
						b.Error(err)
						return
					}
					took[i] = append(took[i], time.Since(start))
				}
			})
		}
		all.Wait()
		done := slices.Concat(took...)
		b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(len(done)), "cpu-µs/op")
		reportQuantiles(b, done)
	})
}

func reportQuantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	for _, q := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*q/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", q))
	}
}

// BenchmarkWatchTLS updates one pod that 500 watchers on 50 connections see,
// beside clients that stopped reading. One operation is one event delivered.
func BenchmarkWatchTLS(b *testing.B) {
	const watchers, perConnection = 500, 10
	for _, stopped := range []int{0, 20} {
		b.Run(fmt.Sprintf("watchers=%d/stopped=%d", watchers, stopped), func(b *testing.B) {
			s := apitest.Start(b, apitest.WithAuditPolicy(silent(b)))
			fillPods(b, s, 1)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			url := s.URL + "/api/v1/namespaces/default/pods?watch=1"
			conns := transports(b, s.REST, watchers/perConnection)
			one := rest.CopyConfig(s.REST)
			one.NextProtos = []string{"http/1.1"}
			for _, t := range transports(b, one, stopped) {
				w, err := openTLS(ctx, t, url, "application/vnd.kubernetes.protobuf;stream=watch")
				if err != nil {
					b.Fatal(err)
				}
				defer w.Body.Close()
			}
			var mu sync.Mutex
			var took []time.Duration
			var sent time.Time
			var reading, received sync.WaitGroup
			defer reading.Wait()
			defer cancel()
			next := func(r io.Reader) error {
				var size [4]byte
				if _, err := io.ReadFull(r, size[:]); err != nil {
					return err
				}
				_, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(size[:])))
				return err
			}
			for i := range watchers {
				w, err := openTLS(ctx, conns[i/perConnection], url, "application/vnd.kubernetes.protobuf;stream=watch")
				if err != nil {
					b.Fatal(err)
				}
				if err := next(w.Body); err != nil { // the initial state
					b.Fatal(err)
				}
				reading.Go(func() {
					defer w.Body.Close()
					for next(w.Body) == nil {
						mu.Lock()
						took = append(took, time.Since(sent))
						mu.Unlock()
						received.Done()
					}
				})
			}
			payload := ""
			if stopped > 0 {
				payload = fmt.Sprintf("%08192d", 0) // fills the buffers of who does not read
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := processorTime(b)
			for i := range b.N/watchers + 1 {
				received.Add(watchers)
				if _, err := client.Modify(ctx, s.Client, "default", "p-000000", "", func(p *corev1.Pod) (bool, error) {
					p.Annotations = map[string]string{"n": fmt.Sprint(i), "payload": payload}
					mu.Lock()
					sent = time.Now()
					mu.Unlock()
					return true, nil
				}); err != nil {
					b.Fatal(err)
				}
				received.Wait()
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(len(took)), "cpu-µs/op")
			reportQuantiles(b, took)
		})
	}
}

func silent(b *testing.B) *audit.Policy {
	b.Helper()
	p, err := audit.ParsePolicy([]byte(`{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"None"}]}`))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// dialer makes transports distinct: client-go shares those that dial alike.
func dialer() func(context.Context, string, string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext
}
