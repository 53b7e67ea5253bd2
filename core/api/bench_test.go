package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
)

func fillPods(b *testing.B, s *apitest.Server, n int) {
	b.Helper()
	for i := range n {
		p := pod(fmt.Sprintf("p-%06d", i))
		p.Namespace = "default"
		if _, err := client.Create(context.Background(), s.Client, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreatePod(b *testing.B) {
	s := apitest.Start(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p := pod(fmt.Sprintf("p-%06d", i))
		p.Namespace = "default"
		if _, err := client.Create(context.Background(), s.Client, p); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkGetCached(b *testing.B) {
	s := apitest.Start(b)
	fillPods(b, s, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.GetCached[*corev1.Pod](context.Background(), s.Client, "default", "p-000000"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdateStatus(b *testing.B) {
	s := apitest.Start(b)
	fillPods(b, s, 1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := client.Modify(context.Background(), s.Client, "default", "p-000000", "status", func(p *corev1.Pod) (bool, error) {
			p.Status.Message = fmt.Sprint(i)
			return true, nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListHTTP(b *testing.B) {
	s := apitest.Start(b)
	fillPods(b, s, 1000)
	h := s.API.Handler()
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		b.Run("size=1k/"+media[12:], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", "/api/v1/pods?resourceVersion=0", nil)
				r.Header.Set("Accept", media)
				r.TLS = s.AdminState()
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
				b.SetBytes(int64(w.Body.Len()))
			}
		})
	}
}

// BenchmarkListTLS lists over HTTP/2 and TLS, as clients do: reading is part of
// the figures. first is the list that makes the encodings.
func BenchmarkListTLS(b *testing.B) {
	const pods = 10_000
	s := apitest.Start(b)
	fillPods(b, s, pods)
	cfg := rest.CopyConfig(s.REST)
	cfg.DisableCompression = true
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct{ name, accept string }{
		{"json", "application/json"},
		{"protobuf", "application/vnd.kubernetes.protobuf"},
		{"table", "application/json;as=Table;v=v1;g=meta.k8s.io"},
		{"metadata", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"},
	} {
		b.Run(fmt.Sprintf("size=10k/%s", bb.name), func(b *testing.B) {
			list := func() int64 {
				r, err := http.NewRequestWithContext(b.Context(), "GET", s.URL+"/api/v1/pods", nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Accept", bb.accept)
				w, err := transport.RoundTrip(r)
				if err != nil {
					b.Fatal(err)
				}
				defer w.Body.Close()
				n, err := io.Copy(io.Discard, w.Body)
				if err != nil || w.StatusCode != http.StatusOK {
					b.Fatal(w.Status, err)
				}
				return n
			}
			start := time.Now()
			b.SetBytes(list())
			first := time.Since(start)
			b.ReportAllocs()
			for b.Loop() {
				list()
			}
			b.ReportMetric(float64(first.Milliseconds()), "ms-first")
			b.ReportMetric(float64(first)/(float64(b.Elapsed())/float64(b.N)), "first/later")
		})
	}
}
