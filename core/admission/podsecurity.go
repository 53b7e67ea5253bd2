package admission

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"binnacle.io/core/audit"
	"binnacle.io/core/client"
	"binnacle.io/core/telemetry"
)

// PodSecurityConfig has the fields of upstream's PodSecurityConfiguration.
type PodSecurityConfig struct {
	// Defaults are what namespaces without labels have: privileged, the
	// latest version, where nothing is said.
	Defaults PodSecurityDefaults `json:"defaults,omitempty"`
	// Exemptions are from every level.
	Exemptions PodSecurityExemptions `json:"exemptions,omitempty"`
}

// PodSecurityDefaults are levels and versions as in a namespace's labels.
type PodSecurityDefaults struct {
	Enforce        string `json:"enforce,omitempty"`
	EnforceVersion string `json:"enforce-version,omitempty"`
	Audit          string `json:"audit,omitempty"`
	AuditVersion   string `json:"audit-version,omitempty"`
	Warn           string `json:"warn,omitempty"`
	WarnVersion    string `json:"warn-version,omitempty"`
}

// PodSecurityExemptions name users, namespaces and runtime classes.
type PodSecurityExemptions struct {
	Usernames      []string `json:"usernames,omitempty"`
	Namespaces     []string `json:"namespaces,omitempty"`
	RuntimeClasses []string `json:"runtimeClasses,omitempty"`
}

// policy is the defaults as the standards' own type.
func (d PodSecurityDefaults) policy() (psapi.Policy, error) {
	labels := map[string]string{}
	for label, v := range map[string]string{
		psapi.EnforceLevelLabel: d.Enforce, psapi.EnforceVersionLabel: d.EnforceVersion,
		psapi.AuditLevelLabel: d.Audit, psapi.AuditVersionLabel: d.AuditVersion,
		psapi.WarnLevelLabel: d.Warn, psapi.WarnVersionLabel: d.WarnVersion,
	} {
		if v != "" {
			labels[label] = v
		}
	}
	all := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	// The evaluation of labels falls back on restricted where one is wrong.
	p, errs := psapi.PolicyToEvaluate(labels, psapi.Policy{Enforce: all, Audit: all, Warn: all})
	if len(errs) > 0 {
		return p, fmt.Errorf("cannot use the defaults of pod security: %w", errs.ToAggregate())
	}
	if d.Warn == "" && d.WarnVersion == "" {
		p.Warn = all // a level to enforce brings its warning along only in labels
	}
	return p, nil
}

// PodSecurity enforces the Pod Security Standards that a namespace's labels
// ask for, on pods, and warns about and notes in the audit log what would be
// refused: workloads by what their pods would be.
type PodSecurity struct {
	c        client.Client
	eval     policy.Evaluator
	defaults psapi.Policy
	exempt   PodSecurityExemptions

	evaluations, exemptions *prometheus.CounterVec
}

// NewPodSecurity returns the plugin. Its metrics are registered with tel.
func NewPodSecurity(cfg PodSecurityConfig, c client.Client, tel *telemetry.Component) (*PodSecurity, error) {
	eval, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot load the Pod Security Standards: %w", err)
	}
	p := &PodSecurity{c: c, eval: eval, exempt: cfg.Exemptions}
	if p.defaults, err = cfg.Defaults.policy(); err != nil {
		return nil, err
	}
	p.evaluations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pod_security_evaluations_total",
		Help: "Policy evaluations, not counting ignored or exempt requests.",
	}, []string{"decision", "policy_level", "policy_version", "mode", "request_operation", "resource", "subresource"})
	p.exemptions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pod_security_exemptions_total",
		Help: "Exempt requests, not counting ignored or out of scope requests.",
	}, []string{"request_operation", "resource", "subresource"})
	for _, m := range []prometheus.Collector{p.evaluations, p.exemptions} {
		if err := tel.Registry.Register(m); err != nil {
			return nil, fmt.Errorf("cannot register pod security metrics: %w", err)
		}
	}
	return p, nil
}

func (*PodSecurity) Name() string { return "PodSecurity" }

func (*PodSecurity) Handles(op Operation, r client.Resource, sub string) bool {
	if op != Create && op != Update {
		return false
	}
	switch r {
	case podResource:
		return sub == "" || sub == "ephemeralcontainers" || sub == "resize"
	case namespaceResource, rcResource, podTemplateResource, deploymentResource, replicaSetResource, statefulResource, daemonSetResource, jobResource, cronJobResource:
		return sub == ""
	}
	return false
}

func (p *PodSecurity) Validate(ctx context.Context, a *Attributes) error {
	if ns, ok := a.Object.(*corev1.Namespace); ok {
		return p.namespace(ctx, a, ns)
	}
	meta, spec := podTemplate(a.Object)
	if spec == nil {
		return nil
	}
	if why := p.exemption(a, spec); why != "" {
		audit.Annotate(ctx, "pod-security.kubernetes.io/exempt", why)
		p.exemptions.WithLabelValues(p.labels(a)...).Inc()
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
	wanted, errs := psapi.PolicyToEvaluate(ns.Labels, p.defaults)
	if len(errs) > 0 {
		audit.Annotate(ctx, "pod-security.kubernetes.io/error", fmt.Sprintf("Failed to parse policy: %v", errs.ToAggregate()))
	}
	if isPod {
		audit.Annotate(ctx, "pod-security.kubernetes.io/enforce-policy", wanted.Enforce.String())
	}
	if wanted.FullyPrivileged() && len(errs) == 0 {
		return nil
	}
	return p.evaluate(ctx, a, wanted, meta, spec, isPod)
}

// evaluate checks a pod, or what will be one, against the three levels.
func (p *PodSecurity) evaluate(ctx context.Context, a *Attributes, wanted psapi.Policy, meta *metav1.ObjectMeta, spec *corev1.PodSpec, isPod bool) error {
	check := func(mode string, lv psapi.LevelVersion) policy.AggregateCheckResult {
		r := policy.AggregateCheckResults(p.eval.EvaluatePod(lv, meta, spec))
		decision := "allow"
		if !r.Allowed {
			decision = "deny"
		}
		if mode == "enforce" || !r.Allowed {
			p.evaluations.WithLabelValues(append([]string{decision, string(lv.Level), lv.Version.String(), mode}, p.labels(a)...)...).Inc()
		}
		return r
	}
	var refusal error
	if isPod {
		if r := check("enforce", wanted.Enforce); !r.Allowed {
			refusal = refuse(a, fmt.Errorf("violates PodSecurity %q: %s", wanted.Enforce.String(), r.ForbiddenDetail()))
		}
	}
	if r := check("audit", wanted.Audit); !r.Allowed {
		audit.Annotate(ctx, "pod-security.kubernetes.io/audit-violations", fmt.Sprintf("would violate PodSecurity %q: %s", wanted.Audit.String(), r.ForbiddenDetail()))
	}
	if refusal != nil {
		return refusal
	}
	if r := check("warn", wanted.Warn); !r.Allowed {
		a.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", wanted.Warn.String(), r.ForbiddenDetail()))
	}
	return nil
}

func (p *PodSecurity) labels(a *Attributes) []string {
	resource := "controller"
	if a.Resource == podResource {
		resource = "pod"
	}
	return []string{strings.ToLower(string(a.Op)), resource, a.Subresource}
}

// exemption says by what a request is exempt, in the audit log's words.
func (p *PodSecurity) exemption(a *Attributes, spec *corev1.PodSpec) string {
	switch {
	case slices.Contains(p.exempt.Namespaces, a.Key.Namespace):
		return "namespace"
	case a.User != nil && slices.Contains(p.exempt.Usernames, a.User.Name):
		return "user"
	case spec.RuntimeClassName != nil && slices.Contains(p.exempt.RuntimeClasses, *spec.RuntimeClassName):
		return "runtimeClass"
	}
	return ""
}

// namespace checks the labels, and warns about pods that are there already and
// would not be let in any more.
func (p *PodSecurity) namespace(ctx context.Context, a *Attributes, ns *corev1.Namespace) error {
	now, errs := psapi.PolicyToEvaluate(ns.Labels, p.defaults)
	invalid := func() error { return apierrors.NewInvalid(schema.GroupKind{Kind: "Namespace"}, ns.Name, errs) }
	old, ok := a.Old.(*corev1.Namespace)
	if !ok {
		if len(errs) > 0 {
			return invalid()
		}
		return nil
	}
	was, before := psapi.PolicyToEvaluate(old.Labels, p.defaults)
	if len(errs) > 0 && !reflect.DeepEqual(errs, before) {
		return invalid()
	}
	e := now.Enforce
	switch {
	case e == was.Enforce, e.Level == psapi.LevelPrivileged, slices.Contains(p.exempt.Namespaces, ns.Name):
		return nil
	case e.Version == was.Enforce.Version && psapi.CompareLevels(e.Level, was.Enforce.Level) < 1:
		return nil
	}
	pods, _, err := client.ListOf[*corev1.Pod](ctx, p.c, client.ReadOptions{Namespace: ns.Name, FromCache: true})
	if err != nil {
		return fmt.Errorf("cannot look at the pods of namespace %q: %w", ns.Name, err)
	}
	for _, text := range p.violations(e, ns.Name, pods) {
		a.Warn(text)
	}
	return nil
}

// maxPodsToCheck bounds what a change of a namespace's level costs; as upstream.
const maxPodsToCheck = 3000

// violations tells which of a namespace's pods the level would refuse, those
// of one workload and one reason together.
func (p *PodSecurity) violations(level psapi.LevelVersion, namespace string, pods []*corev1.Pod) []string {
	pods = onePerOwnerFirst(pods)
	var warnings []string
	if n := len(pods); n > maxPodsToCheck {
		pods = pods[:maxPodsToCheck]
		warnings = append(warnings, fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", maxPodsToCheck, n))
	}
	names := map[string][]string{}
	for _, pod := range pods {
		if r := policy.AggregateCheckResults(p.eval.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
			names[r.ForbiddenReason()] = append(names[r.ForbiddenReason()], pod.Name)
		}
	}
	if len(names) == 0 {
		return warnings
	}
	warnings = append(warnings, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, level.String()))
	var each []string
	for reason, who := range names {
		more := ""
		switch len(who) {
		case 1:
		case 2:
			more = " (and 1 other pod)"
		default:
			more = fmt.Sprintf(" (and %d other pods)", len(who)-1)
		}
		each = append(each, slices.Min(who)+more+": "+reason)
	}
	slices.Sort(each)
	return append(warnings, each...)
}

// onePerOwnerFirst puts pods of owners already seen to the end: they are alike.
func onePerOwnerFirst(pods []*corev1.Pod) []*corev1.Pod {
	seen := map[types.UID]bool{}
	var first, rest []*corev1.Pod
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner != nil && seen[owner.UID] {
			rest = append(rest, pod)
			continue
		}
		if owner != nil {
			seen[owner.UID] = true
		}
		first = append(first, pod)
	}
	return append(first, rest...)
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
	case *corev1.PodTemplate:
		return of(&o.Template)
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
