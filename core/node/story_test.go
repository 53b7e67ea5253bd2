package node_test

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/client"
	"binnacle.io/core/node/nodetest"
)

// TestPods plays the life of pods of many kinds, side by side on one node.
func TestPods(t *testing.T) {
	s := apitest.Start(t)
	n := nodetest.Start(t, s.Client, nil, nil)
	f := func(name string, test func(*testing.T, client.Client, *nodetest.Node)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.Client, n)
		})
	}
	f("succeeds", podSucceeds)
	f("fails", podFails)
	f("crash loop", podCrashLoops)
	f("init containers", podInits)
	f("sidecar", podSidecar)
	f("volumes", podVolumes)
	f("environment", podEnvironment)
	f("liveness", podLiveness)
	f("readiness", podReadiness)
	f("image missing", podImageMissing)
	f("config missing", podConfigMissing)
	f("volume missing", podVolumeMissing)
	f("unsupported volume", podUnsupportedVolume)
	f("stubborn", podStubborn)
	f("hooks", podHooks)
	f("security", podSecurity)
	f("cgroups", podCgroups)
	f("network", podNetwork)
	f("sandbox dies", podSandboxDies)
	f("deadline", podDeadline)
	f("too large", podTooLarge)
}

func logOf(t *testing.T, n *nodetest.Node, p *corev1.Pod, container string, attempt string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.Config.LogDir, "pods", "default_"+p.Name+"_"+string(p.UID), container, attempt+".log"))
	if err != nil {
		t.Errorf("cannot read log: %v", err)
	}
	return string(b)
}

func phase(ph corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == ph }
}

func podSucceeds(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("succeeds", "echo", "hello")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	create(t, c, p)
	p = await(t, c, p.Name, "succeeded", phase(corev1.PodSucceeded))
	cs := p.Status.ContainerStatuses[0]
	if cs.State.Terminated == nil || cs.State.Terminated.Reason != "Completed" || cs.Ready || !strings.HasPrefix(cs.ContainerID, "containerd://") {
		t.Errorf("status:\n%s", describe(p))
	}
	if !strings.Contains(logOf(t, n, p, "main", "0"), "stdout F hello\n") {
		t.Errorf("log: %q", logOf(t, n, p, "main", "0"))
	}
	remove(t, c, p.Name)
	if _, err := os.Stat(filepath.Join(n.Config.DataDir, "pods", string(p.UID))); err == nil {
		eventually(t, "the pod's directory to go", func() bool {
			_, err := os.Stat(filepath.Join(n.Config.DataDir, "pods", string(p.UID)))
			return os.IsNotExist(err)
		})
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func podFails(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("fails", "message", "that was it")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	create(t, c, p)
	p = await(t, c, p.Name, "failed", phase(corev1.PodFailed))
	end := p.Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 3 || end.Reason != "Error" || end.Message != "that was it" {
		t.Errorf("status:\n%s", describe(p))
	}
	remove(t, c, p.Name)
}

func podCrashLoops(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("crash", "exit", "7", "bye")
	p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	create(t, c, p)
	p = await(t, c, p.Name, "in back-off", func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
	cs := p.Status.ContainerStatuses[0]
	last := cs.LastTerminationState.Terminated
	if cs.RestartCount != 1 || last == nil || last.ExitCode != 7 || last.Message != "bye\n" || p.Status.Phase != corev1.PodRunning {
		t.Errorf("status:\n%s", describe(p))
	}
	if !strings.HasPrefix(cs.State.Waiting.Message, "back-off 10s restarting failed container=main pod=crash_default(") {
		t.Errorf("message %q", cs.State.Waiting.Message)
	}
	p = await(t, c, p.Name, "restarted after the back-off", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount == 2 })
	// Of the first run nothing is kept: two instances are enough.
	logs := filepath.Join(n.Config.LogDir, "pods", "default_crash_"+string(p.UID), "main")
	eventually(t, "the oldest log to go", func() bool {
		_, err := os.Stat(filepath.Join(logs, "0.log"))
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(filepath.Join(logs, "1.log")); err != nil {
		t.Error(err)
	}
	eventually(t, "the oldest log's link to go", func() bool {
		links, err := filepath.Glob(filepath.Join(n.Config.LogDir, "containers", "crash_default_main-*.log"))
		return err == nil && len(links) == 2
	})
	remove(t, c, p.Name)
}

func podInits(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("inits", "cat", "/data/second")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mount := []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	p.Spec.Containers[0].VolumeMounts = mount
	p.Spec.InitContainers = []corev1.Container{
		{Name: "first", Image: nodetest.Image, Args: []string{"write", "/data/first", "1"}, VolumeMounts: mount},
		{Name: "second", Image: nodetest.Image, Args: []string{"write", "/data/second", "two"}, VolumeMounts: mount},
	}
	create(t, c, p)
	p = await(t, c, p.Name, "succeeded", phase(corev1.PodSucceeded))
	if condition(p, corev1.PodInitialized) != corev1.ConditionTrue || len(p.Status.InitContainerStatuses) != 2 || !p.Status.InitContainerStatuses[1].Ready {
		t.Errorf("status:\n%s", describe(p))
	}
	if !strings.Contains(logOf(t, n, p, "main", "0"), "two") {
		t.Errorf("log: %q", logOf(t, n, p, "main", "0"))
	}
	remove(t, c, p.Name)
}

func podSidecar(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("sidecar", "echo", "done")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: nodetest.Image, Args: []string{"sleep"}, RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}}
	create(t, c, p)
	p = await(t, c, p.Name, "succeeded with its sidecar ended", phase(corev1.PodSucceeded))
	if p.Status.InitContainerStatuses[0].State.Terminated == nil {
		t.Errorf("status:\n%s", describe(p))
	}
	remove(t, c, p.Name)
}

func podVolumes(t *testing.T, c client.Client, n *nodetest.Node) {
	ctx := context.Background()
	cm, err := client.Create(ctx, c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "conf"},
		Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"bin": {0, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(ctx, c, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sec"}, Data: map[string][]byte{"password": []byte("s3cret")}}); err != nil {
		t.Fatal(err)
	}
	host := t.TempDir()
	p := pod("volumes", "sleep")
	p.Labels = map[string]string{"app": "v"}
	vol := func(name string, src corev1.VolumeSource, m corev1.VolumeMount) {
		m.Name, m.MountPath = name, "/"+name+m.MountPath
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: src})
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, m)
	}
	vol("cm", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}, corev1.VolumeMount{})
	vol("items", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"},
		Items: []corev1.KeyToPath{{Key: "a", Path: "sub/dir/x", Mode: ptr(int32(0o400))}}}}, corev1.VolumeMount{})
	vol("sec", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "sec", DefaultMode: ptr(int32(0o440))}}, corev1.VolumeMount{})
	vol("gone", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none", Optional: ptr(true)}}, corev1.VolumeMount{})
	vol("mem", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi"))}}, corev1.VolumeMount{})
	vol("host", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: filepath.Join(host, "made"), Type: ptr(corev1.HostPathDirectoryOrCreate)}}, corev1.VolumeMount{})
	vol("proj", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(600))}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Items: []corev1.KeyToPath{{Key: "b", Path: "b"}}}},
	}}}, corev1.VolumeMount{})
	vol("subs", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeMount{SubPath: "in/here"})
	if _, err := client.Create(ctx, c, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}); err != nil {
		t.Fatal(err)
	}
	create(t, c, p)
	p = await(t, c, p.Name, "ready", ready)
	id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
	read := func(path string) string {
		t.Helper()
		out, err := n.Exec(t, id, "/app", "cat", path)
		if err != nil {
			t.Errorf("cannot read %s: %v", path, err)
		}
		return out
	}
	for path, want := range map[string]string{"/cm/a": "1", "/cm/b": "2", "/cm/bin": "\x00\x01", "/items/sub/dir/x": "1", "/sec/password": "s3cret", "/proj/labels": `app="v"`, "/proj/b": "2"} {
		if got := read(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	claims := strings.Split(read("/proj/token"), ".")
	if len(claims) != 3 {
		t.Fatalf("token is %q", claims)
	}
	body, err := base64.RawURLEncoding.DecodeString(claims[1])
	if err != nil || !strings.Contains(string(body), string(p.UID)) {
		t.Errorf("token's claims %s: %v", body, err)
	}
	n.Exec(t, id, "/app", "write", "/host/x", "from inside")
	if b, err := os.ReadFile(filepath.Join(host, "made", "x")); err != nil || string(b) != "from inside" {
		t.Errorf("host file %q, %v", b, err)
	}
	if _, err := n.Exec(t, id, "/app", "write", "/cm/a", "no"); err == nil {
		t.Error("a configMap volume could be written")
	}
	n.Exec(t, id, "/app", "write", "/subs/x", "y")
	dir := filepath.Join(n.Config.DataDir, "pods", string(p.UID), "volumes")
	if _, err := os.Stat(filepath.Join(dir, "kubernetes.io~empty-dir", "subs", "in", "here", "x")); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(dir, "kubernetes.io~secret", "sec", "password")); err != nil || st.Mode().Perm() != 0o440 {
		t.Errorf("mode of secret: %v, %v", st, err)
	}

	cm = cm.DeepCopy()
	cm.Data, cm.BinaryData = map[string]string{"a": "changed", "b": "2", "c": "3"}, nil
	if _, err := client.Update(ctx, c, cm); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the volume to follow its ConfigMap", func() bool {
		out, err := n.Exec(t, id, "/app", "cat", "/cm/a", "/cm/c")
		return err == nil && out == "changed3"
	})
	if _, err := n.Exec(t, id, "/app", "test", "/cm/bin"); err == nil {
		t.Error("a removed key is still there")
	}
	if _, err := client.Patch[*corev1.Pod](ctx, c, "default", p.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"w"}}}`), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the downward API to follow the labels", func() bool {
		out, err := n.Exec(t, id, "/app", "cat", "/proj/labels")
		return err == nil && out == `app="w"`
	})
	remove(t, c, p.Name)
	if b, err := os.ReadFile(filepath.Join(host, "made", "x")); err != nil || string(b) != "from inside" {
		t.Errorf("removing the pod touched its host path: %q, %v", b, err)
	}
}

func podEnvironment(t *testing.T, c client.Client, n *nodetest.Node) {
	ctx := context.Background()
	if _, err := client.Create(ctx, c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "envs"}, Data: map[string]string{"one": "1", "two": "2"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(ctx, c, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "my-db"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.77", ClusterIPs: []string{"10.96.0.77"}, Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}}); err != nil {
		t.Fatal(err)
	}
	p := pod("envs", "env")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	ct := &p.Spec.Containers[0]
	ct.EnvFrom = []corev1.EnvFromSource{{Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "envs"}}}}
	ct.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	ct.Env = []corev1.EnvVar{
		{Name: "PLAIN", Value: "x"}, {Name: "REF", Value: "$(PLAIN)-$(CM_one)-$$(PLAIN)-$(NONE)"},
		{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
		{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "envs"}, Key: "two"}}},
	}
	create(t, c, p)
	p = await(t, c, p.Name, "succeeded", phase(corev1.PodSucceeded))
	log := logOf(t, n, p, "main", "0")
	for _, want := range []string{"PLAIN=x", "REF=x-1-$(PLAIN)-$(NONE)", "NODE=node", "IP=" + p.Status.PodIP, "MEM=64", "KEY=2", "CM_two=2",
		"MY_DB_SERVICE_HOST=10.96.0.77", "MY_DB_PORT_5432_TCP=tcp://10.96.0.77:5432", "MY_DB_SERVICE_PORT_SQL=5432", "KUBERNETES_SERVICE_HOST="} {
		if !strings.Contains(log, " F "+want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
	remove(t, c, p.Name)
}

func podLiveness(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("liveness", "sleep")
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2, ProbeHandler: corev1.ProbeHandler{
		Exec: &corev1.ExecAction{Command: []string{"/app", "exit", "1", "not well"}}}}
	create(t, c, p)
	p = await(t, c, p.Name, "restarted", func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	eventually(t, "the events", func() bool {
		ev := events(c)
		return strings.Contains(ev, "Pod/liveness Warning Unhealthy: Liveness probe failed: not well") &&
			strings.Contains(ev, "Pod/liveness Normal Killing: Container main failed liveness probe, will be restarted")
	})
	remove(t, c, p.Name)
}

func podReadiness(t *testing.T, c client.Client, n *nodetest.Node) {
	port := freePort(t)
	p := pod("readiness", "serve", "127.0.0.1:"+port)
	get := func(path string) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Port: intstr.Parse(port), Path: path}}}
	}
	p.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 30, ProbeHandler: corev1.ProbeHandler{
		TCPSocket: &corev1.TCPSocketAction{Host: "127.0.0.1", Port: intstr.Parse(port)}}}
	p.Spec.Containers[0].ReadinessProbe = get("/file?name=/tmp/up")
	p.Spec.Containers[0].LivenessProbe = get("/ok")
	create(t, c, p)
	p = await(t, c, p.Name, "started, not ready", func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Started != nil && *p.Status.ContainerStatuses[0].Started
	})
	if ready(p) {
		t.Errorf("ready too early:\n%s", describe(p))
	}
	id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
	n.Exec(t, id, "/app", "write", "/tmp/up", "")
	await(t, c, p.Name, "ready", ready)
	n.Exec(t, id, "/app", "rm", "/tmp/up")
	p = await(t, c, p.Name, "unready", func(p *corev1.Pod) bool { return condition(p, corev1.PodReady) == corev1.ConditionFalse })
	if p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("restarted:\n%s", describe(p))
	}
	remove(t, c, p.Name)
}

func waitingFor(reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
	}
}

func podImageMissing(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("never", "sleep")
	p.Spec.Containers[0].Image = "binnacle.test/none:1"
	p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
	create(t, c, p)
	await(t, c, p.Name, "ErrImageNeverPull", waitingFor("ErrImageNeverPull"))
	remove(t, c, p.Name)

	p = pod("pull", "sleep")
	p.Spec.Containers[0].Image = "127.0.0.1:1/none:1"
	create(t, c, p)
	await(t, c, p.Name, "ErrImagePull", waitingFor("ErrImagePull"))
	p = await(t, c, p.Name, "ImagePullBackOff", waitingFor("ImagePullBackOff"))
	if m := p.Status.ContainerStatuses[0].State.Waiting.Message; !strings.HasPrefix(m, `Back-off pulling image "127.0.0.1:1/none:1": ErrImagePull: `) {
		t.Errorf("message %q", m)
	}
	remove(t, c, p.Name)
}

func podConfigMissing(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("noconfig", "sleep")
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "late"}, Key: "k"}}}}
	create(t, c, p)
	p = await(t, c, p.Name, "CreateContainerConfigError", waitingFor("CreateContainerConfigError"))
	if m := p.Status.ContainerStatuses[0].State.Waiting.Message; m != `configmaps "late" not found` {
		t.Errorf("message %q", m)
	}
	if _, err := client.Create(context.Background(), c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "late"}, Data: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	await(t, c, p.Name, "ready", ready)
	remove(t, c, p.Name)
}

func podUnsupportedVolume(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("nfs", "sleep")
	p.Spec.Volumes = []corev1.Volume{{Name: "share", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "10.0.0.1", Path: "/x"}}}}
	create(t, c, p)
	await(t, c, p.Name, "ContainerCreating", waitingFor("ContainerCreating"))
	eventually(t, "the event", func() bool {
		return strings.Contains(events(c), `Pod/nfs Warning FailedMount: MountVolume.SetUp failed for volume "share" : nfs: this kind of volume is not supported yet`)
	})
	remove(t, c, p.Name)
}

func podStubborn(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("stubborn", "stubborn")
	create(t, c, p)
	await(t, c, p.Name, "ready", ready)
	began := time.Now()
	remove(t, c, p.Name)
	if took := time.Since(began); took < 1500*time.Millisecond || took > 10*time.Second {
		t.Errorf("gone after %v, want the grace period of 2 s", took)
	}
}

func podHooks(t *testing.T, c client.Client, n *nodetest.Node) {
	host := t.TempDir()
	p := pod("hooks", "sleep")
	p.Spec.TerminationGracePeriodSeconds = ptr(int64(10))
	p.Spec.Volumes = []corev1.Volume{{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}}}
	ct := &p.Spec.Containers[0]
	ct.VolumeMounts = []corev1.VolumeMount{{Name: "h", MountPath: "/h"}}
	ct.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/app", "write", "/h/post", "x"}}},
		PreStop:   &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/app", "write", "/h/pre", "x"}}},
	}
	create(t, c, p)
	await(t, c, p.Name, "ready", ready)
	if _, err := os.Stat(filepath.Join(host, "post")); err != nil {
		t.Error(err)
	}
	remove(t, c, p.Name)
	if _, err := os.Stat(filepath.Join(host, "pre")); err != nil {
		t.Error(err)
	}

	// A hook that waits does not hold up the pod's end.
	p = pod("longhook", "sleep")
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/app", "sleep"}}}}
	create(t, c, p)
	eventually(t, "the container to start", func() bool {
		return strings.Contains(events(c), "event Pod/longhook Normal Started")
	})
	remove(t, c, p.Name)

	p = pod("badhook", "sleep")
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/app", "exit", "1"}}}}
	create(t, c, p)
	await(t, c, p.Name, "restarted", func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	remove(t, c, p.Name)
}

func podSecurity(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("user", "id")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(2000)), FSGroup: ptr(int64(3000)), RunAsNonRoot: ptr(true)}
	create(t, c, p)
	p = await(t, c, p.Name, "succeeded", phase(corev1.PodSucceeded))
	if log := logOf(t, n, p, "main", "0"); !strings.Contains(log, "1000 2000 [2000 3000]") && !strings.Contains(log, "1000 2000 [3000]") {
		t.Errorf("log %q", log)
	}
	remove(t, c, p.Name)

	p = pod("seccomp", "cat", "/proc/self/status")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	create(t, c, p)
	p = await(t, c, p.Name, "succeeded", phase(corev1.PodSucceeded))
	const filtered = "Seccomp:\t2"
	if log := logOf(t, n, p, "main", "0"); strings.Contains(log, filtered) == strings.Contains(events(c), "SeccompUnavailable") {
		t.Errorf("neither confined nor said so, or both: %q", log)
	}
	remove(t, c, p.Name)

	p = pod("root", "id")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true)}
	create(t, c, p)
	await(t, c, p.Name, "refused", waitingFor("CreateContainerConfigError"))
	remove(t, c, p.Name)
}

func podCgroups(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("limits", "sleep")
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
	}
	create(t, c, p)
	p = await(t, c, p.Name, "ready", ready)
	if p.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("class %q", p.Status.QOSClass)
	}
	id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
	group := filepath.Join(n.Config.CgroupRoot, "burstable", "pod"+string(p.UID))
	files := map[string]string{
		"/sys/fs/cgroup/cpu" + group + "/cpu.shares":                          "102",
		"/sys/fs/cgroup/cpu" + group + "/cpu.cfs_quota_us":                    "50000",
		"/sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes":            "67108864",
		"/sys/fs/cgroup/memory" + group + "/" + id + "/memory.limit_in_bytes": "67108864",
		"/sys/fs/cgroup/cpu" + group + "/" + id + "/cpu.cfs_quota_us":         "50000",
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		files = map[string]string{
			"/sys/fs/cgroup" + group + "/cpu.max":               "50000 100000",
			"/sys/fs/cgroup" + group + "/memory.max":            "67108864",
			"/sys/fs/cgroup" + group + "/" + id + "/memory.max": "67108864",
		}
	}
	for file, want := range files {
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s is %q, %v; want %s", file, b, err, want)
		}
	}
	remove(t, c, p.Name)
	for file := range files {
		if _, err := os.Stat(filepath.Dir(file)); err == nil {
			eventually(t, "the cgroup to go", func() bool { _, err := os.Stat(filepath.Dir(file)); return os.IsNotExist(err) })
		}
	}
}

func podDeadline(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("deadline", "sleep")
	p.Spec.ActiveDeadlineSeconds = ptr(int64(2))
	create(t, c, p)
	p = await(t, c, p.Name, "failed", phase(corev1.PodFailed))
	if p.Status.Reason != "DeadlineExceeded" {
		t.Errorf("status:\n%s", describe(p))
	}
	remove(t, c, p.Name)
}

func podTooLarge(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("large", "sleep")
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
	create(t, c, p)
	p = await(t, c, p.Name, "failed", phase(corev1.PodFailed))
	if p.Status.Reason != "OutOfcpu" || !strings.HasPrefix(p.Status.Message, "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: ") {
		t.Errorf("status:\n%s", describe(p))
	}
	remove(t, c, p.Name)
}

func podNetwork(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("net", "sleep")
	p.Spec.HostNetwork = false
	p.Spec.Hostname, p.Spec.Subdomain = "box", "sub"
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"other", "another"}}}
	create(t, c, p)
	p = await(t, c, p.Name, "ready", ready)
	if p.Status.PodIP != nodetest.PodIP || len(p.Status.PodIPs) != 1 || p.Status.HostIP == nodetest.PodIP {
		t.Errorf("addresses %s %v %s", p.Status.PodIP, p.Status.PodIPs, p.Status.HostIP)
	}
	id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
	for file, want := range map[string]string{
		"/etc/hosts":                nodetest.PodIP + "\tbox.sub.default.svc.cluster.local\tbox\n\n# Entries added by HostAliases.\n192.0.2.9\tother\tanother\n",
		"/etc/resolv.conf":          "search default.svc.cluster.local svc.cluster.local cluster.local",
		"/proc/sys/kernel/hostname": "box\n",
	} {
		if got, err := n.Exec(t, id, "/app", "cat", file); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
	node, err := client.Get[*corev1.Node](context.Background(), c, "", "node")
	if err != nil {
		t.Fatal(err)
	}
	for _, cond := range node.Status.Conditions {
		if (cond.Status == corev1.ConditionTrue) != (cond.Type == corev1.NodeReady) {
			t.Errorf("node condition %s=%s: %s", cond.Type, cond.Status, cond.Message)
		}
	}
	remove(t, c, p.Name)
}

func podVolumeMissing(t *testing.T, c client.Client, n *nodetest.Node) {
	p := pod("novolume", "sleep")
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "later"}}}}
	create(t, c, p)
	eventually(t, "the event", func() bool {
		return strings.Contains(events(c), `Pod/novolume Warning FailedMount: MountVolume.SetUp failed for volume "v" : secrets "later" not found`)
	})
	if _, err := client.Create(context.Background(), c, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "later"}}); err != nil {
		t.Fatal(err)
	}
	await(t, c, p.Name, "ready", ready)
	remove(t, c, p.Name)
}

// podSandboxDies kills what holds the pod's namespaces: the pod gets new ones
// and its container is started again in them.
func podSandboxDies(t *testing.T, c client.Client, n *nodetest.Node) {
	p := create(t, c, pod("sandboxdies", "sleep"))
	await(t, c, p.Name, "ready", ready)
	for _, r := range n.Agent.Running() {
		if r.PodUID != p.UID || !r.Sandbox {
			continue
		}
		procs, err := filepath.Glob("/sys/fs/cgroup/memory" + r.Cgroup + "/cgroup.procs")
		if err == nil && len(procs) == 0 {
			procs = []string{"/sys/fs/cgroup" + r.Cgroup + "/cgroup.procs"}
		}
		b, err := os.ReadFile(procs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
				t.Fatalf("cannot kill %q: %v", f, err)
			}
		}
	}
	await(t, c, p.Name, "restarted", func(p *corev1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if !strings.Contains(events(c), "event Pod/sandboxdies Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.") {
		t.Error(events(c))
	}
	remove(t, c, p.Name)
}
