package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"

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
