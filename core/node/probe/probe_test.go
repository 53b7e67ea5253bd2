package probe_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/node/probe"
	"binnacle.io/core/node/runtime"
)

func TestCounter(t *testing.T) {
	c := probe.Counter{Success: 2, Failure: 3}
	var got strings.Builder
	for _, a := range "ssfsffufssfff" {
		answer := map[rune]probe.Answer{'s': probe.Success, 'f': probe.Failure, 'u': probe.Unknown}[a]
		v, ok := c.Count(answer)
		switch {
		case !ok:
			got.WriteByte('-')
		case v == probe.Success:
			got.WriteByte('S')
		default:
			got.WriteByte('F')
		}
	}
	if want := "-S-----F-S--F"; got.String() != want {
		t.Errorf("verdicts %s, want %s", got.String(), want)
	}
}

func split(t *testing.T, addr string) (string, int) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n := intstr.Parse(port)
	return host, n.IntValue()
}

func TestHTTP(t *testing.T) {
	var last *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r
		switch r.URL.Path {
		case "/fail":
			w.WriteHeader(500)
		case "/away":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/fail", http.StatusFound)
		}
	}))
	defer srv.Close()
	host, port := split(t, srv.Listener.Addr().String())
	f := func(path string, want probe.Answer, text string) {
		t.Helper()
		p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("web"),
			HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "example.com"}}}}}
		target := probe.Target{PodIP: host, Version: "1", Container: &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(port)}}}}
		a, got := probe.Once(context.Background(), nil, target, p)
		if a != want || got != text {
			t.Errorf("%s: %v %q, want %v %q", path, a, got, want, text)
		}
	}
	f("/ok?a=b", probe.Success, "")
	if last.Host != "example.com" || last.URL.RawQuery != "a=b" || last.UserAgent() != "kube-probe/1" {
		t.Errorf("request %v", last)
	}
	f("/fail", probe.Failure, "HTTP probe failed with statuscode: 500")
	f("/here", probe.Failure, "HTTP probe failed with statuscode: 500")
	f("/away", probe.Success, "") // another host's answer is none of ours
}

func TestTCPAndGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	hs := health.NewServer()
	healthpb.RegisterHealthServer(srv, hs)
	go srv.Serve(l)
	host, port := split(t, l.Addr().String())
	target := probe.Target{PodIP: host, Container: &corev1.Container{}}
	once := func(h corev1.ProbeHandler) string {
		a, text := probe.Once(context.Background(), nil, target, &corev1.Probe{ProbeHandler: h})
		return a.String() + " " + text
	}
	tcp := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port)}}
	g := corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(port)}}
	if got := once(tcp); got != "successful " {
		t.Error(got)
	}
	if got := once(g); got != "successful " {
		t.Error(got)
	}
	hs.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	if got := once(g); got != `failed service unhealthy (responded with "NOT_SERVING")` {
		t.Error(got)
	}
	srv.Stop()
	if got := once(tcp); !strings.HasPrefix(got, "failed dial tcp") {
		t.Error(got)
	}
}

// answers is a container whose command ends as the next code says.
type answers struct {
	codes []int32
	at    []time.Duration
	began time.Time
}

func (a *answers) Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (runtime.ExecResult, error) {
	a.at = append(a.at, time.Since(a.began))
	code := a.codes[0]
	if len(a.codes) > 1 {
		a.codes = a.codes[1:]
	}
	if code < 0 {
		return runtime.ExecResult{}, fmt.Errorf("it %w", runtime.ErrExecTimeout)
	}
	return runtime.ExecResult{ExitCode: code, Stderr: []byte("no")}, nil
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{codes: []int32{1, 0, -1, 1, 0}, began: time.Now()}
		p := &corev1.Probe{InitialDelaySeconds: 3, PeriodSeconds: 2, FailureThreshold: 2, SuccessThreshold: 1,
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
		var got []string
		probe.Loop(context.Background(), a, probe.Target{}, p, time.Now(), 0, func(r probe.Report) bool {
			got = append(got, fmt.Sprint(r.Answer, " ", r.Decided))
			return len(got) < 5
		})
		if s := fmt.Sprint(got); s != "[failed false successful true failed false failed true successful true]" {
			t.Error(s)
		}
		if s := fmt.Sprint(a.at); s != "[3s 5s 7s 9s 11s]" {
			t.Error(s)
		}
	})
}
