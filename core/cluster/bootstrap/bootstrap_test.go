package bootstrap_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/cluster/bootstrap"
	"binnacle.io/core/telemetry"
)

func config() bootstrap.Config {
	return bootstrap.Config{AdvertiseAddress: netip.MustParseAddr("192.0.2.7"), Port: 16443, ClientCA: []byte("ca"), FrontProxyCA: []byte("front")}
}

func run(t *testing.T, s *apitest.Server, cfg bootstrap.Config) {
	t.Helper()
	if err := bootstrap.Bootstrap(t.Context(), s.Client, cfg); err != nil {
		t.Fatal(err)
	}
}

// versions returns the resourceVersion of everything Bootstrap makes.
func versions(t *testing.T, s *apitest.Server) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range []client.Resource{
		{Resource: "namespaces"}, {Resource: "services"}, {Resource: "endpoints"}, {Resource: "configmaps"},
		{Group: "networking.k8s.io", Resource: "servicecidrs"},
		{Group: "discovery.k8s.io", Resource: "endpointslices"}, {Group: "scheduling.k8s.io", Resource: "priorityclasses"},
		{Group: rbacv1.GroupName, Resource: "clusterroles"}, {Group: rbacv1.GroupName, Resource: "clusterrolebindings"},
		{Group: rbacv1.GroupName, Resource: "roles"}, {Group: rbacv1.GroupName, Resource: "rolebindings"},
	} {
		l, err := s.Client.List(t.Context(), r, client.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range l.Items {
			all[r.String()+" "+client.KeyOf(o).String()] = o.GetResourceVersion()
		}
	}
	return all
}

func TestBootstrap(t *testing.T) {
	s := apitest.Start(t)
	ctx, c := t.Context(), s.Client
	run(t, s, config())

	cidr, err := client.Get[*networkingv1.ServiceCIDR](ctx, c, "", "kubernetes")
	if err != nil || !slices.Equal(cidr.Spec.CIDRs, []string{"10.96.0.0/12"}) || !apimeta.IsStatusConditionTrue(cidr.Status.Conditions, "Ready") {
		t.Errorf("the ServiceCIDR is %+v, %v", cidr, err)
	}
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if _, err := client.Get[*corev1.Namespace](ctx, c, "", name); err != nil {
			t.Error(err)
		}
	}
	svc, err := client.Get[*corev1.Service](ctx, c, "default", "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	if svc.Spec.ClusterIP != "10.96.0.1" || svc.Spec.Ports[0].Port != 443 || svc.Spec.Ports[0].TargetPort.IntValue() != 16443 {
		t.Errorf("service %+v", svc.Spec)
	}
	ep, err := client.Get[*corev1.Endpoints](ctx, c, "default", "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	if ep.Subsets[0].Addresses[0].IP != "192.0.2.7" || ep.Subsets[0].Ports[0].Port != 16443 {
		t.Errorf("endpoints %+v", ep.Subsets)
	}
	slice, err := client.Get[*discoveryv1.EndpointSlice](ctx, c, "default", "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	if slice.Endpoints[0].Addresses[0] != "192.0.2.7" || *slice.Ports[0].Port != 16443 {
		t.Errorf("slice %+v", slice)
	}
	pc, err := client.Get[*schedulingv1.PriorityClass](ctx, c, "", "system-node-critical")
	if err != nil || pc.Value != 2000001000 {
		t.Errorf("priority class %+v %v", pc, err)
	}
	cm, err := client.Get[*corev1.ConfigMap](ctx, c, "kube-system", "extension-apiserver-authentication")
	if err != nil || cm.Data["client-ca-file"] != "ca" || cm.Data["requestheader-username-headers"] != `["X-Remote-User"]` {
		t.Errorf("config map %+v %v", cm, err)
	}

	before := versions(t, s)
	run(t, s, config())
	for name, v := range versions(t, s) {
		if before[name] != v {
			t.Errorf("the second run wrote %s", name)
		}
	}

	moved := config()
	moved.AdvertiseAddress = netip.MustParseAddr("192.0.2.8")
	run(t, s, moved)
	if slice, err = client.Get[*discoveryv1.EndpointSlice](ctx, c, "default", "kubernetes"); err != nil || slice.Endpoints[0].Addresses[0] != "192.0.2.8" {
		t.Errorf("slice %+v %v", slice, err)
	}
}

func TestBootstrapRepairsRoles(t *testing.T) {
	s := apitest.Start(t)
	ctx, c := t.Context(), s.Client
	run(t, s, config())
	extra := rbacv1.PolicyRule{APIGroups: []string{"example.com"}, Resources: []string{"things"}, Verbs: []string{"get"}}
	change := func(name string, f func(*rbacv1.ClusterRole)) {
		t.Helper()
		if _, err := client.Modify(ctx, c, "", name, "", func(r *rbacv1.ClusterRole) (bool, error) { f(r); return true, nil }); err != nil {
			t.Fatal(err)
		}
	}
	change("system:kube-scheduler", func(r *rbacv1.ClusterRole) { r.Rules = []rbacv1.PolicyRule{extra} })
	change("system:monitoring", func(r *rbacv1.ClusterRole) {
		r.Rules = nil
		r.Annotations["rbac.authorization.kubernetes.io/autoupdate"] = "false"
	})
	if err := client.Delete[*rbacv1.ClusterRoleBinding](ctx, c, "", "system:basic-user", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Modify(ctx, c, "", "system:discovery", "", func(b *rbacv1.ClusterRoleBinding) (bool, error) { b.Subjects = nil; return true, nil }); err != nil {
		t.Fatal(err)
	}
	run(t, s, config())

	scheduler, err := client.Get[*rbacv1.ClusterRole](ctx, c, "", "system:kube-scheduler")
	if err != nil {
		t.Fatal(err)
	}
	bind := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/binding"}, Verbs: []string{"create"}}
	if ok, missing := auth.Covers(scheduler.Rules, []rbacv1.PolicyRule{bind, extra}); !ok {
		t.Errorf("the scheduler lacks %v", missing)
	}
	monitoring, err := client.Get[*rbacv1.ClusterRole](ctx, c, "", "system:monitoring")
	if err != nil || len(monitoring.Rules) != 0 {
		t.Errorf("a role that is not to be updated has %v, %v", monitoring.Rules, err)
	}
	b, err := client.Get[*rbacv1.ClusterRoleBinding](ctx, c, "", "system:discovery")
	if err != nil || len(b.Subjects) != 1 {
		t.Errorf("binding %+v %v", b, err)
	}
	if _, err := client.Get[*rbacv1.ClusterRoleBinding](ctx, c, "", "system:basic-user"); err != nil {
		t.Error(err)
	}
}

func TestAggregator(t *testing.T) {
	s := apitest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	stop, end := context.WithCancel(ctx)
	go func() { ended <- bootstrap.NewAggregator(s.Client, telemetry.Discard()).Run(stop) }()
	defer func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	thing := rbacv1.PolicyRule{APIGroups: []string{"example.com"}, Resources: []string{"things"}, Verbs: []string{"get"}}
	w, err := client.WatchOf[*rbacv1.ClusterRole](ctx, s.Client, "", client.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := client.Create(ctx, s.Client, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "things", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{thing},
	}); err != nil {
		t.Fatal(err)
	}
	waiting := []string{"view", "edit", "admin"}
	for len(waiting) > 0 {
		e, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("%v are not aggregated: %v", waiting, err)
		}
		r, ok := e.Object.(*rbacv1.ClusterRole)
		if !ok {
			continue
		}
		if ok, _ := auth.Covers(r.Rules, []rbacv1.PolicyRule{thing}); ok {
			waiting = slices.DeleteFunc(waiting, func(n string) bool { return n == r.Name })
		}
	}
}
