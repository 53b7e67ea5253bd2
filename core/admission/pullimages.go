package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"binnacle.io/core/client"
)

// AlwaysPullImages has every image pulled anew, so that only those who may pull
// an image can run it, wherever it lies already. It is off unless asked for.
type AlwaysPullImages struct{}

// NewAlwaysPullImages returns the plugin.
func NewAlwaysPullImages() AlwaysPullImages { return AlwaysPullImages{} }

func (AlwaysPullImages) Name() string { return "AlwaysPullImages" }

func (AlwaysPullImages) Handles(op Operation, r client.Resource, sub string) bool {
	return r == podResource && (op == Create || op == Update) && (sub == "" || sub == "ephemeralcontainers")
}

func (AlwaysPullImages) Admit(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !newImages(a, pod) {
		return nil
	}
	pulled(pod, func(_ *field.Path, policy *corev1.PullPolicy) { *policy = corev1.PullAlways })
	return nil
}

func (AlwaysPullImages) Validate(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !newImages(a, pod) {
		return nil
	}
	var errs []error
	pulled(pod, func(at *field.Path, policy *corev1.PullPolicy) {
		if *policy != corev1.PullAlways {
			errs = append(errs, field.NotSupported(at, *policy, []corev1.PullPolicy{corev1.PullAlways}))
		}
	})
	if len(errs) > 0 {
		return refuse(a, several(errs))
	}
	return nil
}

// pulled calls f with the pull policy of everything that has an image.
func pulled(pod *corev1.Pod, f func(at *field.Path, policy *corev1.PullPolicy)) {
	spec := field.NewPath("spec")
	for i := range pod.Spec.InitContainers {
		f(spec.Child("initContainers").Index(i).Child("imagePullPolicy"), &pod.Spec.InitContainers[i].ImagePullPolicy)
	}
	for i := range pod.Spec.Containers {
		f(spec.Child("containers").Index(i).Child("imagePullPolicy"), &pod.Spec.Containers[i].ImagePullPolicy)
	}
	for i := range pod.Spec.EphemeralContainers {
		f(spec.Child("ephemeralContainers").Index(i).Child("imagePullPolicy"), &pod.Spec.EphemeralContainers[i].ImagePullPolicy)
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			f(spec.Child("volumes").Index(i).Child("image", "pullPolicy"), &v.PullPolicy)
		}
	}
}

// newImages reports that the request brings an image that the pod did not have.
func newImages(a *Attributes, pod *corev1.Pod) bool {
	old, ok := a.Old.(*corev1.Pod)
	if !ok {
		return true
	}
	had := images(old)
	return slices.ContainsFunc(images(pod), func(i string) bool { return !slices.Contains(had, i) })
}

func images(pod *corev1.Pod) []string {
	var all []string
	containers(&pod.Spec, func(c *corev1.Container, _ bool) { all = append(all, c.Image) })
	for i := range pod.Spec.EphemeralContainers {
		all = append(all, pod.Spec.EphemeralContainers[i].Image)
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			all = append(all, v.Reference)
		}
	}
	return all
}

// SecurityContextDeny refuses pods that choose their own users, groups or
// SELinux labels. Upstream dropped it for PodSecurity; it is off unless asked
// for.
type SecurityContextDeny struct{ only }

// NewSecurityContextDeny returns the plugin.
func NewSecurityContextDeny() SecurityContextDeny {
	return SecurityContextDeny{on(podResource, Create, Update)}
}

func (SecurityContextDeny) Name() string { return "SecurityContextDeny" }

func (SecurityContextDeny) Validate(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	forbidden := func(what string) error { return refuse(a, fmt.Errorf("%s is forbidden", what)) }
	if sc := pod.Spec.SecurityContext; sc != nil {
		switch {
		case sc.SupplementalGroups != nil:
			return forbidden("pod.Spec.SecurityContext.SupplementalGroups")
		case sc.SELinuxOptions != nil:
			return forbidden("pod.Spec.SecurityContext.SELinuxOptions")
		case sc.RunAsUser != nil:
			return forbidden("pod.Spec.SecurityContext.RunAsUser")
		case sc.FSGroup != nil:
			return forbidden("pod.Spec.SecurityContext.FSGroup")
		}
	}
	var err error
	containers(&pod.Spec, func(c *corev1.Container, _ bool) {
		switch sc := c.SecurityContext; {
		case sc == nil || err != nil:
		case sc.SELinuxOptions != nil:
			err = forbidden("SecurityContext.SELinuxOptions")
		case sc.RunAsUser != nil:
			err = forbidden("SecurityContext.RunAsUser")
		}
	})
	return err
}
