package admission

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"binnacle.io/core/client"
)

// PodSecurity enforces the Pod Security Standards that a namespace's labels
// ask for, on pods, and warns about workloads whose pods would be refused.
type PodSecurity struct {
	c    client.Client
	eval policy.Evaluator
}

// NewPodSecurity returns the plugin.
func NewPodSecurity(c client.Client) (*PodSecurity, error) {
	eval, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot load the Pod Security Standards: %w", err)
	}
	return &PodSecurity{c, eval}, nil
}

func (*PodSecurity) Name() string { return "PodSecurity" }

func (*PodSecurity) Handles(op Operation, r client.Resource, sub string) bool {
	if op != Create && op != Update {
		return false
	}
	switch r {
	case podResource:
		return sub == "" || sub == "ephemeralcontainers"
	case namespaceResource, rcResource, deploymentResource, replicaSetResource, statefulResource, daemonSetResource, jobResource, cronJobResource:
		return sub == ""
	}
	return false
}

// privileged is what namespaces without labels have.
func privileged() psapi.Policy {
	all := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	return psapi.Policy{Enforce: all, Audit: all, Warn: all}
}

func (p *PodSecurity) Validate(ctx context.Context, a *Attributes) error {
	if ns, ok := a.Object.(*corev1.Namespace); ok {
		return p.namespace(a, ns)
	}
	meta, spec := podTemplate(a.Object)
	if spec == nil {
		return nil
	}
	_, isPod := a.Object.(*corev1.Pod)
	if old, ok := a.Old.(*corev1.Pod); ok && isPod && !significant(a.Object.(*corev1.Pod), old) {
		return nil
	}
	ns, err := client.GetCached[*corev1.Namespace](ctx, p.c, "", a.Key.Namespace)
	if err != nil {
		return fmt.Errorf("cannot look up the pod security of namespace %q: %w", a.Key.Namespace, err)
	}
	wanted, errs := psapi.PolicyToEvaluate(ns.Labels, privileged())
	if wanted.FullyPrivileged() {
		return nil
	}
	if isPod {
		if len(errs) > 0 {
			a.Warn(fmt.Sprintf("namespace %q has invalid pod security labels: %v", ns.Name, errs.ToAggregate()))
		}
		if r := policy.AggregateCheckResults(p.eval.EvaluatePod(wanted.Enforce, meta, spec)); !r.Allowed {
			return refuse(a, fmt.Errorf("violates PodSecurity %q: %s", wanted.Enforce.String(), r.ForbiddenDetail()))
		}
	}
	if isPod && wanted.Warn.Equivalent(&wanted.Enforce) {
		return nil
	}
	if r := policy.AggregateCheckResults(p.eval.EvaluatePod(wanted.Warn, meta, spec)); !r.Allowed {
		a.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", wanted.Warn.String(), r.ForbiddenDetail()))
	}
	return nil
}

func (p *PodSecurity) namespace(a *Attributes, ns *corev1.Namespace) error {
	_, errs := psapi.PolicyToEvaluate(ns.Labels, privileged())
	if len(errs) == 0 {
		return nil
	}
	if old, ok := a.Old.(*corev1.Namespace); ok {
		if _, before := psapi.PolicyToEvaluate(old.Labels, privileged()); len(before) > 0 {
			return nil // it was so already
		}
	}
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Namespace"}, ns.Name, errs)
}

// significant reports whether an update changes what the standards look at.
func significant(pod, old *corev1.Pod) bool {
	return !equality.Semantic.DeepEqual(pod.Spec, old.Spec) || !equality.Semantic.DeepEqual(pod.Annotations, old.Annotations)
}

// podTemplate returns the pod an object is or makes.
func podTemplate(o client.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	of := func(t *corev1.PodTemplateSpec) (*metav1.ObjectMeta, *corev1.PodSpec) {
		if t == nil {
			return nil, nil
		}
		return &t.ObjectMeta, &t.Spec
	}
	switch o := o.(type) {
	case *corev1.Pod:
		return &o.ObjectMeta, &o.Spec
	case *corev1.ReplicationController:
		return of(o.Spec.Template)
	case *appsv1.Deployment:
		return of(&o.Spec.Template)
	case *appsv1.ReplicaSet:
		return of(&o.Spec.Template)
	case *appsv1.StatefulSet:
		return of(&o.Spec.Template)
	case *appsv1.DaemonSet:
		return of(&o.Spec.Template)
	case *batchv1.Job:
		return of(&o.Spec.Template)
	case *batchv1.CronJob:
		return of(&o.Spec.JobTemplate.Spec.Template)
	}
	return nil, nil
}
