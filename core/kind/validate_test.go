package kind

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func kindOf(t *testing.T, o Object) *Kind {
	t.Helper()
	k, err := Builtin().Of(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ptr[T any](v T) *T { return &v }

func aPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1"}}},
	}
}

func aDeployment() *appsv1.Deployment {
	labels := map[string]string{"app": "a"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: aPod().Spec},
		},
	}
}

func aService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func anAutoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "d"}, MaxReplicas: 3,
	}}
}

// refusal is one thing that is wrong with an object, and what is said of it.
type refusal struct {
	name string
	obj  Object
	want string
}

func pod(change func(*corev1.Pod)) Object {
	p := aPod()
	change(p)
	return p
}

func container(change func(*corev1.Container)) Object {
	return pod(func(p *corev1.Pod) { change(&p.Spec.Containers[0]) })
}

func deployment(change func(*appsv1.Deployment)) Object {
	d := aDeployment()
	change(d)
	return d
}

func service(change func(*corev1.Service)) Object {
	s := aService()
	change(s)
	return s
}

func autoscaler(change func(*autoscalingv2.HorizontalPodAutoscaler)) Object {
	h := anAutoscaler()
	change(h)
	return h
}

func TestRefusals(t *testing.T) {
	quantity := resource.MustParse
	for _, tc := range []refusal{
		{"no containers", pod(func(p *corev1.Pod) { p.Spec.Containers = nil }), "spec.containers: Required value"},
		{"container name", container(func(c *corev1.Container) { c.Name = "A" }), `spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label`},
		{"no image", container(func(c *corev1.Container) { c.Image = "" }), "spec.containers[0].image: Required value"},
		{"same name twice", pod(func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) }), `spec.containers[1].name: Duplicate value: "c"`},
		{"restart policy", pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Sometimes" }), `spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`},
		{"requests above limits", container(func(c *corev1.Container) {
			c.Resources.Requests = corev1.ResourceList{"cpu": quantity("2")}
			c.Resources.Limits = corev1.ResourceList{"cpu": quantity("1")}
		}), `spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`},
		{"unknown resource", container(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"speed": quantity("1")} }), `spec.containers[0].resources.limits[speed]: Invalid value: "speed": must be a standard resource for containers`},
		{"negative", container(func(c *corev1.Container) { c.Resources.Limits = corev1.ResourceList{"cpu": quantity("-1")} }), `spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0`},
		{"mount without volume", container(func(c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		}), `spec.containers[0].volumeMounts[0].name: Not found: "data"`},
		{"two sources", pod(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: "/x"}, EmptyDir: &corev1.EmptyDirVolumeSource{},
			}}}
		}), "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"},
		{"backsteps", pod(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x/../y"}}}}
		}), `spec.volumes[0].hostPath.path: Invalid value: "/x/../y": must not contain '..'`},
		{"port range", container(func(c *corev1.Container) { c.Ports = []corev1.ContainerPort{{ContainerPort: 70000}} }), "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"},
		{"probe without handler", container(func(c *corev1.Container) { c.LivenessProbe = &corev1.Probe{} }), "spec.containers[0].livenessProbe: Required value: must specify a handler type"},
		{"liveness twice", container(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{SuccessThreshold: 2, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}}
		}), "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"},
		{"env twice sourced", container(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", Value: "b", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
		}), "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"},
		{"field path", container(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.color"}}}}
		}), `spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.color": error converting fieldPath: field label not supported: spec.color`},
		{"escalation", container(func(c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{Privileged: ptr(true), AllowPrivilegeEscalation: ptr(false)}
		}), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"},
		{"toleration", pod(func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: "Equal"}} }), "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty"},
		{"init container's probe", pod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ReadinessProbe: &corev1.Probe{}}}
		}), "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"},

		{"no selector", deployment(func(d *appsv1.Deployment) { d.Spec.Selector = nil }), "spec.selector: Required value"},
		{"selector misses", deployment(func(d *appsv1.Deployment) { d.Spec.Template.Labels = map[string]string{"app": "b"} }), "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`"},
		{"negative replicas", deployment(func(d *appsv1.Deployment) { d.Spec.Replicas = ptr(int32(-1)) }), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"},
		{"no progress at all", deployment(func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr(intstr.FromInt32(0)), MaxSurge: ptr(intstr.FromString("0%"))}
		}), "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"},
		{"never restarting", deployment(func(d *appsv1.Deployment) { d.Spec.Template.Spec.RestartPolicy = "Never" }), `spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`},

		{"no ports", service(func(s *corev1.Service) { s.Spec.Ports = nil }), "spec.ports: Required value"},
		{"unnamed ports", service(func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Port: 1}, {Name: "b", Port: 2}} }), "spec.ports[0].name: Required value"},
		{"node port", service(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30000 }), "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"},
		{"headless node port", service(func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP = "NodePort", "None" }), "may not be set to 'None' for NodePort services"},
		{"cluster IP", service(func(s *corev1.Service) { s.Spec.ClusterIP = "10.0.0.300" }), `spec.clusterIPs[0]: Invalid value: "10.0.0.300": must be a valid IP address`},

		{"config map key", &corev1.ConfigMap{Data: map[string]string{"a/b": ""}}, `data[a/b]: Invalid value: "a/b": a valid config key must consist of`},
		{"TLS secret", &corev1.Secret{Type: corev1.SecretTypeTLS}, "data[tls.crt]: Required value"},
		{"no max", autoscaler(func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.MaxReplicas = 0 }), "spec.maxReplicas: Required value: must be set and greater than 0"},
		{"no source", autoscaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: "Pods"}}
		}), "spec.metrics[0].pods: Required value: must populate information for the given metric source"},
		{"role", &rbacv1.Role{Rules: []rbacv1.PolicyRule{{Resources: []string{"pods"}, APIGroups: []string{""}}}}, "rules[0].verbs: Required value: verbs must contain at least one value"},
		{"binding", &rbacv1.RoleBinding{RoleRef: rbacv1.RoleRef{Kind: "Thing", Name: "x"}}, `roleRef.kind: Unsupported value: "Thing": supported values: "Role", "ClusterRole"`},
		{"ingress", &networkingv1.Ingress{}, "either `defaultBackend` or `rules` must be specified"},
		{"priority", &schedulingv1.PriorityClass{Value: 2_000_000_000}, "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"},
		{"taint", &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "k", Effect: "Go"}}}}, `metadata.taints[0].effect: Unsupported value: "Go"`},
		{"claim", &corev1.PersistentVolumeClaim{}, "spec.accessModes: Required value: at least 1 access mode is required"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := kindOf(t, tc.obj)
			if k.Default != nil {
				k.Default(tc.obj)
			}
			if k.PrepareCreate != nil {
				k.PrepareCreate(tc.obj)
			}
			got := messages(k.Validate(tc.obj))
			if !slices.ContainsFunc(got, func(m string) bool { return strings.Contains(m, tc.want) }) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestUpdates(t *testing.T) {
	secret := func(frozen bool, v string) Object {
		return &corev1.Secret{Immutable: &frozen, Data: map[string][]byte{"a": []byte(v)}}
	}
	for _, tc := range []struct {
		name     string
		old, obj Object
		want     string // empty: accepted
	}{
		{"pod image", aPod(), container(func(c *corev1.Container) { c.Image = "nginx:2" }), ""},
		{"pod command", aPod(), container(func(c *corev1.Container) { c.Command = []string{"x"} }), "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"},
		{"pod container", aPod(), pod(func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "d"})
		}), "spec.containers: Forbidden: pod updates may not add or remove containers"},
		{"pod toleration", aPod(), pod(func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: "Exists"}}
		}), ""},
		{"selector", aDeployment(), deployment(func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchLabels = map[string]string{"app": "b"}
			d.Spec.Template.Labels = map[string]string{"app": "b"}
		}), "spec.selector: Invalid value"},
		{"replicas", aDeployment(), deployment(func(d *appsv1.Deployment) { d.Spec.Replicas = ptr(int32(7)) }), ""},
		{"cluster IP", service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1"} }),
			service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.2", []string{"10.0.0.2"} }), "may not change once set"},
		{"cluster IP left out", service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1"} }), aService(), ""},
		{"frozen secret", secret(true, "1"), secret(true, "2"), "data: Forbidden: field is immutable when `immutable` is set"},
		{"thawed secret", secret(true, "1"), secret(false, "1"), "immutable: Forbidden"},
		{"secret", secret(false, "1"), secret(true, "2"), ""},
		{"role of a binding", &rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "a"}},
			&rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "b"}}, "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"b\"}: cannot change roleRef"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := kindOf(t, tc.obj)
			for _, o := range []Object{tc.obj, tc.old} {
				if k.Default != nil {
					k.Default(o)
				}
			}
			if k.PrepareUpdate != nil {
				k.PrepareUpdate(tc.obj, tc.old)
			}
			got := strings.Join(messages(k.ValidateUpdate(tc.obj, tc.old)), "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestGeneration(t *testing.T) {
	k := kindOf(t, aDeployment())
	old := aDeployment()
	k.Default(old)
	k.PrepareCreate(old)
	if old.Generation != 1 {
		t.Errorf("a new object has generation %d, want 1", old.Generation)
	}
	same := old.DeepCopy()
	same.Labels = map[string]string{"x": "y"}
	same.Status.Replicas = 5
	k.PrepareUpdate(same, old)
	if same.Generation != 1 || same.Status.Replicas != 0 {
		t.Errorf("labels and status changed: generation %d, want 1; status.replicas %d, want 0", same.Generation, same.Status.Replicas)
	}
	more := old.DeepCopy()
	more.Spec.Replicas = ptr(int32(3))
	k.PrepareUpdate(more, old)
	if more.Generation != 2 {
		t.Errorf("spec changed: generation %d, want 2", more.Generation)
	}
}

func TestGracePeriod(t *testing.T) {
	k := kindOf(t, aPod())
	for _, tc := range []struct {
		name  string
		node  string
		phase corev1.PodPhase
		asked *int64
		want  int64
	}{
		{"own", "n", corev1.PodRunning, nil, 30},
		{"asked", "n", corev1.PodRunning, ptr(int64(5)), 5},
		{"negative", "n", corev1.PodRunning, ptr(int64(-5)), 1},
		{"unscheduled", "", corev1.PodPending, ptr(int64(5)), 0},
		{"finished", "n", corev1.PodSucceeded, nil, 0},
	} {
		p := aPod()
		k.Default(p)
		p.Spec.NodeName, p.Status.Phase = tc.node, tc.phase
		if got, graceful := k.GracePeriod(p, tc.asked); got != tc.want || !graceful {
			t.Errorf("%s: %d, %t, want %d, true", tc.name, got, graceful, tc.want)
		}
	}
}

func TestScale(t *testing.T) {
	k := kindOf(t, aDeployment())
	d := aDeployment()
	k.Default(d)
	d.Status.Replicas = 1
	i := slices.IndexFunc(k.Subresources, func(s Subresource) bool { return s.Name == "scale" })
	body, err := k.Subresources[i].Project(d)
	if err != nil {
		t.Fatal(err)
	}
	sc := body.(*autoscalingv1.Scale)
	if sc.Spec.Replicas != 1 || sc.Status.Replicas != 1 || sc.Status.Selector != "app=a" {
		t.Errorf("scale is %+v", sc)
	}
	sc.Spec.Replicas = 4
	if err := k.Subresources[i].Apply(d, sc); err != nil || *d.Spec.Replicas != 4 {
		t.Errorf("after Apply: %d replicas, %v, want 4", *d.Spec.Replicas, err)
	}
}

func rlist(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}
