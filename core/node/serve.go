package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/node/server"
)

// serve answers the node's clients.
func (a *Agent) serve(ctx context.Context) error {
	probes := prometheus.NewRegistry()
	probes.MustRegister(a.metrics.probes)
	authorize := a.cfg.Authorize
	if authorize == nil {
		authorize = a.reviewAccess
	}
	s, err := server.New(server.Config{
		NodeName: a.cfg.Name, Certificate: a.cfg.ServerTLS, ClientCAs: a.cfg.ClientCAs,
		Authenticate: a.reviewToken, Authorize: authorize,
		Metrics: a.tel.Registry, Probes: probes,
		Cadvisor: a.cfg.CadvisorMetrics, Resource: a.cfg.ResourceMetrics, Summary: a.cfg.StatsSummary,
		Config: map[string]any{"maxPods": a.cfg.MaxPods, "clusterDNS": a.cfg.ClusterDNS, "clusterDomain": a.cfg.ClusterDomain,
			"port": a.cfg.Port, "cgroupRoot": a.cfg.CgroupRoot, "containerRuntimeEndpoint": "unix://" + a.cfg.Socket()},
	}, a, a.runtime, a.tel)
	if err != nil {
		return err
	}
	l, err := s.Listen(net.JoinHostPort(a.cfg.Address, strconv.Itoa(a.cfg.Port)))
	if err != nil {
		return err
	}
	a.address = l.Addr().String()
	a.tcpPort = l.Addr().(*net.TCPAddr).Port
	close(a.listening)
	return s.Serve(ctx, l)
}

// port is the server's; it listens before anything asks.
func (a *Agent) port() int {
	<-a.listening
	return a.tcpPort
}

// ProbeMetrics are the prober_* series, which upstream serves apart.
func (a *Agent) ProbeMetrics() prometheus.Collector { return a.metrics.probes }

// Pods implements server.Node.
func (a *Agent) Pods() []*corev1.Pod {
	var out []*corev1.Pod
	for _, w := range a.allWorkers() {
		pod, v := w.snapshot()
		p := pod.DeepCopy()
		v.status.DeepCopyInto(&p.Status)
		out = append(out, p)
	}
	return out
}

// Pod implements server.Node.
func (a *Agent) Pod(namespace, name string) (server.Pod, bool) {
	var found server.Pod
	for _, w := range a.allWorkers() {
		pod, v := w.snapshot()
		if pod.Namespace != namespace || pod.Name != name {
			continue
		}
		// Of an old and a new pod of one name the one not on its way out.
		if found.Pod == nil || pod.DeletionTimestamp == nil {
			p := *pod
			p.Status = v.status
			found = server.Pod{Pod: &p, Sandboxes: v.sandboxes, Containers: v.containers}
		}
	}
	return found, found.Pod != nil
}

// Healthy implements server.Node.
func (a *Agent) Healthy() error { return a.health.lastRelist() }

// reviewToken asks the API whose token it is.
func (a *Agent) reviewToken(ctx context.Context, token string) (*auth.User, bool, error) {
	got, err := a.client.Create(ctx, client.Resource{Group: "authentication.k8s.io", Resource: "tokenreviews"}, client.Key{},
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, client.WriteOptions{})
	if err != nil {
		return nil, false, fmt.Errorf("cannot review token: %w", err)
	}
	tr, ok := got.(*authenticationv1.TokenReview)
	if !ok || !tr.Status.Authenticated {
		return nil, false, nil
	}
	return &auth.User{Name: tr.Status.User.Username, UID: tr.Status.User.UID, Groups: tr.Status.User.Groups}, true, nil
}

// reviewAccess asks the API whether the user may use the node.
func (a *Agent) reviewAccess(ctx context.Context, user *auth.User, verb, subresource string) error {
	got, err := a.client.Create(ctx, client.Resource{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}, client.Key{},
		&authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Name, Groups: user.Groups, UID: user.UID,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.cfg.Name, Verb: verb},
		}}, client.WriteOptions{})
	if err != nil {
		return fmt.Errorf("cannot review access: %w", err)
	}
	sar, ok := got.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return fmt.Errorf("cannot use %T as a SubjectAccessReview", got)
	}
	if !sar.Status.Allowed {
		if sar.Status.Reason == "" {
			return errors.New("no rule allows it")
		}
		return errors.New(sar.Status.Reason)
	}
	return nil
}
