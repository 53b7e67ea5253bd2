package podspec_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"

	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/runtime"
)

// none is a cluster without objects but for the API's service.
type none struct{}

func (none) ConfigMap(_ context.Context, ns, name string) (*corev1.ConfigMap, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (none) Secret(_ context.Context, ns, name string) (*corev1.Secret, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (none) Services(_ context.Context, ns string) ([]*corev1.Service, error) {
	if ns != "default" {
		return nil, nil
	}
	return []*corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}}}, nil
}

func parse(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func node() *podspec.Node {
	return &podspec.Node{Name: "n1", LogDir: "/logs", CgroupRoot: "/kubepods", ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local",
		HostDNS: podspec.ParseResolv("# mine\nnameserver 192.0.2.53\nsearch example.com .\noptions edns0 ndots:2\n"), MemoryCapacity: 1 << 30, Seccomp: true}
}

func TestQOS(t *testing.T) {
	f := func(spec string, class corev1.PodQOSClass, parent string, want podspec.Resources, oom int64) {
		t.Helper()
		p := parse(t, "metadata: {uid: u}\nspec: {containers: "+spec+"}")
		if got := podspec.QOS(p); got != class {
			t.Errorf("%s: class %s, want %s", spec, got, class)
		}
		if got := podspec.CgroupParent("/kubepods", p); got != parent {
			t.Errorf("%s: cgroup %s, want %s", spec, got, parent)
		}
		if got := podspec.PodResources(p); got != want {
			t.Errorf("%s: resources %+v, want %+v", spec, got, want)
		}
		if got := podspec.OOMScoreAdjust(p, &p.Spec.Containers[0], 1<<30); got != oom {
			t.Errorf("%s: OOM score %d, want %d", spec, got, oom)
		}
	}
	f("[{name: a}]", corev1.PodQOSBestEffort, "/kubepods/besteffort/podu", podspec.Resources{Shares: 2, Period: 100000}, 1000)
	f("[{name: a, resources: {requests: {cpu: 500m, memory: 512Mi}}}]", corev1.PodQOSBurstable, "/kubepods/burstable/podu",
		podspec.Resources{Shares: 512, Period: 100000}, 500)
	f("[{name: a, resources: {requests: {cpu: 1, memory: 64Mi}, limits: {cpu: 1, memory: 64Mi}}}]", corev1.PodQOSGuaranteed, "/kubepods/podu",
		podspec.Resources{Shares: 1024, Quota: 100000, Period: 100000, Memory: 64 << 20}, -997)
	// One container without a limit leaves the pod without one.
	f("[{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 200m, memory: 64Mi}}}, {name: b, resources: {limits: {memory: 64Mi}}}]",
		corev1.PodQOSBurstable, "/kubepods/burstable/podu", podspec.Resources{Shares: 102, Period: 100000, Memory: 128 << 20}, 999)
}

func TestRequestsCountInitContainers(t *testing.T) {
	p := parse(t, `
spec:
  overhead: {cpu: 10m}
  initContainers:
  - {name: a, resources: {requests: {cpu: 300m}}}
  - {name: side, restartPolicy: Always, resources: {requests: {cpu: 100m}}}
  - {name: b, resources: {requests: {cpu: 350m}}}
  containers: [{name: m, resources: {requests: {cpu: 200m}}}]
`)
	if got := podspec.Requests(p)[corev1.ResourceCPU]; got.Cmp(resource.MustParse("460m")) != 0 {
		t.Errorf("requests %s", got.String())
	}
}

func TestResolver(t *testing.T) {
	f := func(spec string, want string) {
		t.Helper()
		p := parse(t, "metadata: {namespace: ns, name: p}\nspec: "+spec)
		cfg, err := podspec.Sandbox(p, 0, node())
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			return
		}
		if got := fmt.Sprint(cfg.DnsConfig.Servers, cfg.DnsConfig.Searches, cfg.DnsConfig.Options); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
	f("{dnsPolicy: ClusterFirst}", "[10.96.0.10] [ns.svc.cluster.local svc.cluster.local cluster.local example.com .] [ndots:5]")
	f("{dnsPolicy: ClusterFirst, hostNetwork: true}", "[192.0.2.53] [example.com .] [edns0 ndots:2]")
	f("{dnsPolicy: Default}", "[192.0.2.53] [example.com .] [edns0 ndots:2]")
	f("{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [a], options: [{name: ndots, value: '1'}]}}", "[1.1.1.1] [a] [ndots:1]")
	f("{dnsPolicy: ClusterFirst, dnsConfig: {options: [{name: ndots, value: '2'}, {name: use-vc}]}}",
		"[10.96.0.10] [ns.svc.cluster.local svc.cluster.local cluster.local example.com .] [ndots:2 use-vc]")
}

func TestSandbox(t *testing.T) {
	p := parse(t, `
metadata: {namespace: ns, name: p, uid: u, labels: {a: b}}
spec:
  hostname: h
  subdomain: sub
  setHostnameAsFQDN: true
  shareProcessNamespace: true
  securityContext: {sysctls: [{name: net.core.somaxconn, value: "9"}], fsGroup: 5, supplementalGroups: [6]}
  containers: [{name: c, ports: [{containerPort: 53, hostPort: 5353, protocol: UDP}]}]
`)
	cfg, err := podspec.Sandbox(p, 3, node())
	if err != nil {
		t.Fatal(err)
	}
	lsc := cfg.Linux.SecurityContext
	got := fmt.Sprint(cfg.Hostname, cfg.Metadata.Attempt, cfg.LogDirectory, cfg.Labels["a"], cfg.Labels[runtime.LabelPodUID], cfg.Linux.Sysctls,
		lsc.NamespaceOptions.Pid, lsc.SupplementalGroups, cfg.PortMappings[0].HostPort, cfg.PortMappings[0].Protocol, cfg.Linux.CgroupParent)
	want := "h.sub.ns.svc.cluster.local3/logs/ns_p_ub" + "u map[net.core.somaxconn:9] POD [6 5] 5353 UDP /kubepods/besteffort/podu"
	if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.Spec.HostUsers = new(bool)
	if _, err := podspec.Sandbox(p, 0, node()); err == nil || !strings.Contains(err.Error(), "hostUsers") {
		t.Errorf("hostUsers: %v", err)
	}
}

func start(p *corev1.Pod) podspec.Start {
	return podspec.Start{Pod: p, Container: &p.Spec.Containers[0], Type: runtime.Main, Image: runtime.Image{ID: "sha256:x"}, Addresses: podspec.Addresses{Pod: []string{"10.244.0.7"}, Host: []string{"192.0.2.1"}}}
}

func TestContainer(t *testing.T) {
	p := parse(t, `
metadata: {namespace: ns, name: p, uid: u}
spec:
  containers:
  - name: c
    image: web:1
    command: [run, "$(A)", "$$(A)", "$(B", "$(NONE)"]
    env:
    - {name: A, value: "1"}
    - {name: B, value: "$(A)$(KUBERNETES_SERVICE_PORT)"}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: none, key: k, optional: true}}}
    terminationMessagePath: /dev/termination-log
    securityContext: {capabilities: {add: [CAP_NET_ADMIN], drop: [all]}, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, seccompProfile: {type: RuntimeDefault}}
`)
	s := start(p)
	s.Attempt, s.MessageFile = 4, "/host/message"
	cc, err := podspec.Container(context.Background(), s, node(), none{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(cc.Command, " "); got != "run 1 $(A) $(B $(NONE)" {
		t.Errorf("command %q", got)
	}
	env := map[string]string{}
	for _, kv := range cc.Envs {
		env[kv.Key] = string(kv.Value)
	}
	if env["B"] != "1443" || env["IP"] != "10.244.0.7" || env["KUBERNETES_PORT_443_TCP_ADDR"] != "10.96.0.1" {
		t.Errorf("environment %v", env)
	}
	if _, ok := env["KEY"]; ok {
		t.Error("an optional key that is not there is set")
	}
	sc := cc.Linux.SecurityContext
	if !sc.NoNewPrivs || !sc.ReadonlyRootfs || sc.Seccomp.ProfileType != cri.SecurityProfile_RuntimeDefault || !slices.Contains(sc.MaskedPaths, "/proc/kcore") ||
		fmt.Sprint(sc.Capabilities.AddCapabilities, sc.Capabilities.DropCapabilities) != "[NET_ADMIN] [ALL]" {
		t.Errorf("security %v", sc)
	}
	if cc.LogPath != "c/4.log" || cc.Mounts[0].HostPath != "/host/message" || cc.Annotations[runtime.AnnotationRestartCount] != "4" {
		t.Errorf("config %v", cc)
	}
}

func TestContainerRefuses(t *testing.T) {
	f := func(spec, want string) {
		t.Helper()
		p := parse(t, "metadata: {namespace: ns, name: p, uid: u}\nspec: {containers: [{name: c, "+spec+"}]}")
		_, err := podspec.Container(context.Background(), start(p), node(), none{})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
	f("envFrom: [{configMapRef: {name: x}}]", `configmaps "x" not found`)
	f("env: [{name: A, valueFrom: {secretKeyRef: {name: x, key: k}}}]", `secrets "x" not found`)
	f("env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nope}}}]", "unsupported fieldPath: spec.nope")
	f("securityContext: {runAsNonRoot: true}", `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`)
	f("securityContext: {runAsNonRoot: true, runAsUser: 0}", `container's runAsUser breaks non-root policy (pod: "p_ns(u)", container: c)`)
	f("volumeDevices: [{name: x, devicePath: /dev/x}]", `container "c": volumeDevices are not supported yet`)
}

func TestFields(t *testing.T) {
	p := parse(t, `
metadata: {name: p, namespace: ns, labels: {b: "2", a: 'x"y'}, annotations: {k/l: v}}
spec: {containers: [{name: c, resources: {requests: {cpu: 1200m}, limits: {memory: 100Mi}}}]}
`)
	for path, want := range map[string]string{"metadata.labels": "a=\"x\\\"y\"\nb=\"2\"", "metadata.annotations['k/l']": "v", "metadata.name": "p"} {
		if got, err := podspec.Field(p, podspec.Addresses{}, path); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	alloc := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	for res, want := range map[string]string{"requests.cpu": "2", "limits.memory": "104857600", "limits.cpu": "4"} {
		if got, err := podspec.ResourceField(p, &p.Spec.Containers[0], &corev1.ResourceFieldSelector{Resource: res}, alloc); err != nil || got != want {
			t.Errorf("%s: %q, %v", res, got, err)
		}
	}
}

func TestSeccomp(t *testing.T) {
	p := parse(t, `
metadata: {name: p, namespace: ns}
spec:
  securityContext: {seccompProfile: {type: RuntimeDefault}}
  containers:
  - {name: c}
  - {name: own, securityContext: {seccompProfile: {type: Localhost, localhostProfile: a/b.json}}}
  - {name: free, securityContext: {seccompProfile: {type: Unconfined}}}
`)
	n := node()
	n.SeccompDir = "/profiles"
	f := func(n *podspec.Node, want ...string) {
		t.Helper()
		for i := range p.Spec.Containers {
			s := start(p)
			s.Container = &p.Spec.Containers[i]
			cfg, err := podspec.Container(context.Background(), s, n, none{})
			if err != nil {
				t.Fatal(err)
			}
			sec := cfg.Linux.SecurityContext.Seccomp
			if got := strings.TrimSpace(sec.ProfileType.String() + " " + sec.LocalhostRef); got != want[i] {
				t.Errorf("%s: %s, want %s", s.Container.Name, got, want[i])
			}
		}
	}
	f(n, "RuntimeDefault", "Localhost /profiles/a/b.json", "Unconfined")
	if got := podspec.Unconfined(p, n); got != nil {
		t.Errorf("unconfined: %v", got)
	}
	n.Seccomp = false
	f(n, "Unconfined", "Localhost /profiles/a/b.json", "Unconfined")
	if got := podspec.Unconfined(p, n); !slices.Equal(got, []string{"c"}) {
		t.Errorf("unconfined: %v", got)
	}
}

func TestEphemeralTarget(t *testing.T) {
	f := func(spec string, want cri.NamespaceMode) {
		t.Helper()
		s := start(parse(t, "spec: {"+spec+"containers: [{name: c}]}"))
		s.Target = "abc"
		cfg, err := podspec.Container(context.Background(), s, node(), none{})
		if err != nil {
			t.Fatal(err)
		}
		o := cfg.Linux.SecurityContext.NamespaceOptions
		if o.Pid != want || (o.TargetId == "abc") != (want == cri.NamespaceMode_TARGET) {
			t.Errorf("%q: %v", spec, o)
		}
	}
	f("", cri.NamespaceMode_TARGET)
	f("shareProcessNamespace: true, ", cri.NamespaceMode_POD)
}

func TestSandboxTakesPortsOfWhatRunsOn(t *testing.T) {
	p := parse(t, `
spec:
  initContainers:
  - {name: once, ports: [{containerPort: 1, hostPort: 1}]}
  - {name: side, restartPolicy: Always, ports: [{containerPort: 2, hostPort: 2}]}
  containers: [{name: c, ports: [{containerPort: 3, hostPort: 3}]}]
`)
	cfg, err := podspec.Sandbox(p, 0, node())
	if err != nil || len(cfg.PortMappings) != 2 || cfg.PortMappings[0].HostPort != 2 || cfg.PortMappings[1].HostPort != 3 {
		t.Errorf("%v, %v", cfg.GetPortMappings(), err)
	}
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu"}}
	if _, err := podspec.Sandbox(p, 0, node()); err == nil || err.Error() != "spec.resourceClaims is not supported yet" {
		t.Errorf("resourceClaims: %v", err)
	}
}
