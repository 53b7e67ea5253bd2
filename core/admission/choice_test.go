package admission_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// placed stands in a place of the chain.
type placed string

func (p placed) Name() string                                            { return string(p) }
func (placed) Handles(admission.Operation, client.Resource, string) bool { return false }

// TestChoice: what is on by default, what is asked for, and where policies and
// webhooks will stand.
func TestChoice(t *testing.T) {
	s := apitest.Start(t)
	names := func(cfg admission.Config) ([]string, error) {
		all, err := admission.Builtin(cfg, s.Client, auth.NewRBAC(), auth.Masters(), telemetry.Discard())
		var out []string
		for _, p := range all {
			out = append(out, p.Name())
		}
		return out, err
	}
	got, err := names(admission.Config{
		MutatingPolicies: placed("MutatingAdmissionPolicy"), MutatingWebhooks: placed("MutatingAdmissionWebhook"),
		ValidatingPolicies: placed("ValidatingAdmissionPolicy"), ValidatingWebhooks: placed("ValidatingAdmissionWebhook"),
		Enable: []string{"AlwaysPullImages"}, Disable: []string{"PodSecurity"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Upstream's order of those it has.
	upstream := []string{
		"NamespaceLifecycle", "LimitRanger", "ServiceAccount", "NodeRestriction", "TaintNodesByCondition", "AlwaysPullImages", "PodSecurity",
		"Priority", "DefaultTolerationSeconds", "ExtendedResourceToleration", "DefaultStorageClass", "StorageObjectInUseProtection",
		"PersistentVolumeClaimResize", "RuntimeClass", "DefaultIngressClass", "PodTopologyLabels", "MutatingAdmissionPolicy", "MutatingAdmissionWebhook",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook", "ResourceQuota",
	}
	last := -1
	for _, name := range upstream {
		i := slices.Index(got, name)
		if name == "PodSecurity" {
			if i >= 0 {
				t.Error("PodSecurity is disabled and there")
			}
			continue
		}
		if i <= last {
			t.Errorf("%s is at %d, after %d: %v", name, i, last, got)
		}
		last = i
	}
	if slices.Contains(got, "SecurityContextDeny") || last != len(got)-1 {
		t.Errorf("chain %v", got)
	}
	for _, bad := range []admission.Config{
		{Enable: []string{"Nothing"}}, {Disable: []string{"Nothing"}}, {Enable: []string{"Priority"}, Disable: []string{"Priority"}},
		{PodSecurity: admission.PodSecurityConfig{Defaults: admission.PodSecurityDefaults{Enforce: "some"}}},
	} {
		if _, err := names(bad); err == nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestAlwaysPullImages(t *testing.T) {
	c := apitest.Start(t).Client
	p := admission.NewAlwaysPullImages()
	o := pod("default", "a")
	o.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ImagePullPolicy: corev1.PullNever}}
	o.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r"}}}}
	a := attributes(t, c, o, nil)
	refused(t, "before", p.Validate(t.Context(), a), 403, `spec.initContainers[0].imagePullPolicy: Unsupported value: "Never": supported values: "Always"`)
	if err := p.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if o.Spec.InitContainers[0].ImagePullPolicy != corev1.PullAlways || o.Spec.Volumes[0].Image.PullPolicy != corev1.PullAlways {
		t.Errorf("%+v", o.Spec)
	}
	if err := p.Validate(t.Context(), a); err != nil {
		t.Error(err)
	}
	// What ran before the plugin was asked for goes on.
	old := pod("default", "b")
	next := old.DeepCopy()
	next.Labels = map[string]string{"x": "y"}
	if err := p.Validate(t.Context(), attributes(t, c, next, old)); err != nil {
		t.Error(err)
	}
}

func TestSecurityContextDeny(t *testing.T) {
	c := apitest.Start(t).Client
	p := admission.NewSecurityContextDeny()
	one := int64(1)
	for text, change := range map[string]func(*corev1.PodSpec){
		"":                                   func(*corev1.PodSpec) {},
		"pod.Spec.SecurityContext.RunAsUser": func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &one} },
		"pod.Spec.SecurityContext.FSGroup":   func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{FSGroup: &one} },
		"pod.Spec.SecurityContext.SELinuxOptions": func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{}}
		},
		"SecurityContext.RunAsUser": func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: &one}
		},
	} {
		o := pod("default", "a")
		change(&o.Spec)
		err := p.Validate(t.Context(), attributes(t, c, o, nil))
		if text == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		refused(t, text, err, 403, text+" is forbidden")
	}
}

// TestPodSecurityDefaults: levels for namespaces that say nothing, and who is
// exempt from them.
func TestPodSecurityDefaults(t *testing.T) {
	c := apitest.Start(t).Client
	create(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "free"}})
	create(t, c, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "box"}, Handler: "box"})
	p, err := admission.NewPodSecurity(admission.PodSecurityConfig{
		Defaults:   admission.PodSecurityDefaults{Enforce: "baseline", EnforceVersion: "latest"},
		Exemptions: admission.PodSecurityExemptions{Namespaces: []string{"free"}, Usernames: []string{"jane"}, RuntimeClasses: []string{"box"}},
	}, c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	host := func(namespace string) *corev1.Pod {
		o := pod(namespace, "a")
		o.Spec.HostNetwork = true
		return o
	}
	ask := func(o *corev1.Pod, user string) error {
		a := attributes(t, c, o, nil)
		a.User = &auth.User{Name: user}
		return p.Validate(context.Background(), a)
	}
	refused(t, "by default", ask(host("default"), "joe"), 403, `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`)
	if err := ask(host("free"), "joe"); err != nil {
		t.Errorf("namespace: %v", err)
	}
	if err := ask(host("default"), "jane"); err != nil {
		t.Errorf("user: %v", err)
	}
	boxed, box := host("default"), "box"
	boxed.Spec.RuntimeClassName = &box
	if err := ask(boxed, "joe"); err != nil {
		t.Errorf("runtime class: %v", err)
	}
}
