package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
)

// Config says where the API server is found.
type Config struct {
	// AdvertiseAddress and Port are the API server's own, reachable from
	// pods. Default port 6443.
	AdvertiseAddress netip.Addr
	Port             int
	// ServiceAddress and ServicePort are those of the kubernetes Service;
	// default 10.96.0.1 and 443.
	ServiceAddress netip.Addr
	ServicePort    int
	// ServiceCIDRs are the ranges Services get their addresses from;
	// default 10.96.0.0/12.
	ServiceCIDRs []netip.Prefix
	// ClientCA and FrontProxyCA are PEM certificates for aggregated API
	// servers; the latter may be empty.
	ClientCA, FrontProxyCA []byte
}

func (cfg *Config) complete() error {
	if !cfg.AdvertiseAddress.IsValid() {
		return fmt.Errorf("cannot bootstrap the cluster: no advertise address is configured")
	}
	if a := cfg.AdvertiseAddress; a.IsLoopback() || a.IsUnspecified() {
		// Endpoints may not be loopback addresses; the kubernetes Service
		// then has none, which only matters to pods.
		cfg.AdvertiseAddress = netip.Addr{}
	}
	if cfg.Port == 0 {
		cfg.Port = 6443
	}
	if !cfg.ServiceAddress.IsValid() {
		cfg.ServiceAddress = netip.AddrFrom4([4]byte{10, 96, 0, 1})
	}
	if len(cfg.ServiceCIDRs) == 0 {
		cfg.ServiceCIDRs = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 0, 0}), 12)}
	}
	if cfg.ServicePort == 0 {
		cfg.ServicePort = 443
	}
	return nil
}

// Bootstrap creates what is missing. c acts as a member of system:masters.
func Bootstrap(ctx context.Context, c client.Client, cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, client.Client, Config) error
	}{
		{"namespaces", namespaces},
		{"priority classes", priorityClasses},
		{"RBAC policy", rbacPolicy},
		{"ServiceCIDR", serviceCIDR},
		{"kubernetes Service", kubernetesService},
		{"extension-apiserver-authentication", extensionAuthentication},
		{"cluster-info", clusterInfo},
		{"legacy token tracking", legacyTokenTracking},
	} {
		if err := step.do(ctx, c, cfg); err != nil {
			return fmt.Errorf("cannot bootstrap the cluster's %s: %w", step.what, err)
		}
	}
	return nil
}

// ensure creates want or, when it exists, lets merge bring a copy of the
// stored object up to date; merge reports whether it changed anything. A nil
// merge leaves what exists alone.
func ensure[T client.Object](ctx context.Context, c client.Client, want T, merge func(have T) bool) error {
	err := createOrModify(ctx, c, want, merge)
	if err != nil {
		return fmt.Errorf("cannot ensure %T %s: %w", want, client.KeyOf(want), err)
	}
	return nil
}

func createOrModify[T client.Object](ctx context.Context, c client.Client, want T, merge func(have T) bool) error {
	_, err := client.Get[T](ctx, c, want.GetNamespace(), want.GetName())
	if apierrors.IsNotFound(err) {
		if _, err := client.Create(ctx, c, want); !apierrors.IsAlreadyExists(err) {
			return err
		}
		err = nil
	}
	if err != nil || merge == nil {
		return err
	}
	_, err = client.Modify(ctx, c, want.GetNamespace(), want.GetName(), "", func(have T) (bool, error) { return merge(have), nil })
	return err
}

func namespaces(ctx context.Context, c client.Client, _ Config) error {
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		if err := ensure(ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Values of the system priority classes.
const (
	clusterCritical = 2_000_000_000
	nodeCritical    = clusterCritical + 1000
)

func priorityClasses(ctx context.Context, c client.Client, _ Config) error {
	for _, pc := range []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: nodeCritical,
			Description: "Used for system critical pods that must not be moved from their current node."},
		{ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: clusterCritical,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."},
	} {
		if err := ensure(ctx, c, pc, nil); err != nil {
			return err
		}
	}
	return nil
}

// extensionAuthentication publishes how aggregated API servers recognize us.
func extensionAuthentication(ctx context.Context, c client.Client, cfg Config) error {
	list := func(values ...string) string {
		text, _ := json.Marshal(values) // strings cannot fail
		return string(text)
	}
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"}}
	want.Data = map[string]string{}
	if len(cfg.ClientCA) > 0 {
		want.Data["client-ca-file"] = string(cfg.ClientCA)
	}
	if len(cfg.FrontProxyCA) > 0 {
		want.Data["requestheader-client-ca-file"] = string(cfg.FrontProxyCA)
		want.Data["requestheader-allowed-names"] = list("front-proxy-client")
		want.Data["requestheader-username-headers"] = list("X-Remote-User")
		want.Data["requestheader-uid-headers"] = list("X-Remote-Uid")
		want.Data["requestheader-group-headers"] = list("X-Remote-Group")
		want.Data["requestheader-extra-headers-prefix"] = list("X-Remote-Extra-")
	}
	return ensure(ctx, c, want, func(have *corev1.ConfigMap) bool {
		if maps.Equal(have.Data, want.Data) {
			return false
		}
		have.Data = want.Data
		return true
	})
}
