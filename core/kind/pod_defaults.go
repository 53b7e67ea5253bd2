package kind

import (
	"reflect"
	"regexp"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// orElse sets what is empty.
func orElse[T comparable](p *T, v T) {
	if *p == *new(T) {
		*p = v
	}
}

// orPointer sets what is nil.
func orPointer[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func defaultPod(p *corev1.Pod) {
	s := &p.Spec
	defaultPodSpec(s)
	orPointer(&s.EnableServiceLinks, true)
	for _, cs := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range cs {
			defaultRequests(&cs[i].Resources)
			if s.HostNetwork {
				for j := range cs[i].Ports {
					orElse(&cs[i].Ports[j].HostPort, cs[i].Ports[j].ContainerPort)
				}
			}
		}
	}
	defaultPodRequests(s)
}

// defaultRequests asks for what a container may use where it does not say.
func defaultRequests(r *corev1.ResourceRequirements) {
	for name, q := range r.Limits {
		if _, ok := r.Requests[name]; ok {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = q.DeepCopy()
	}
}

// defaultPodRequests does the same for the whole pod (KEP-2837): the sum of
// what its containers ask for, else the limit.
func defaultPodRequests(s *corev1.PodSpec) {
	if s.Resources == nil {
		return
	}
	for name, limit := range s.Resources.Limits {
		if _, ok := s.Resources.Requests[name]; ok {
			continue
		}
		var sum resource.Quantity
		for i := range s.Containers {
			sum.Add(s.Containers[i].Resources.Requests[name])
		}
		for i := range s.InitContainers {
			if deref(s.InitContainers[i].RestartPolicy) == corev1.ContainerRestartPolicyAlways {
				sum.Add(s.InitContainers[i].Resources.Requests[name])
			}
		}
		if sum.IsZero() {
			sum = limit.DeepCopy()
		}
		if s.Resources.Requests == nil {
			s.Resources.Requests = corev1.ResourceList{}
		}
		s.Resources.Requests[name] = sum
	}
}

// defaultPodSpec is what holds for pods and for templates of pods.
func defaultPodSpec(s *corev1.PodSpec) {
	orElse(&s.DNSPolicy, corev1.DNSClusterFirst)
	orElse(&s.RestartPolicy, corev1.RestartPolicyAlways)
	orPointer(&s.SecurityContext, corev1.PodSecurityContext{})
	orPointer(&s.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	orElse(&s.SchedulerName, corev1.DefaultSchedulerName)
	// serviceAccount is the old name of serviceAccountName and always equal.
	orElse(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName
	if s.Resources != nil {
		roundUp(s.Resources.Limits)
		roundUp(s.Resources.Requests)
	}
	roundUp(s.Overhead)

	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

func defaultContainer(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	orElse(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	orElse(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		orElse(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			if from.FieldRef != nil {
				orElse(&from.FieldRef.APIVersion, "v1")
			}
			if from.FileKeyRef != nil {
				orPointer(&from.FileKeyRef.Optional, false)
			}
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p != nil {
			defaultProbe(p)
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

// pullPolicy depends on whether the image may change under its name.
func pullPolicy(image string) corev1.PullPolicy {
	last := image[strings.LastIndex(image, "/")+1:]
	_, tag, tagged := strings.Cut(last, ":")
	// The grammar is looked at last: that costs most.
	if tagged && tag != "latest" || strings.Contains(image, "@") || !imageReference(image) {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

// imageReference says whether an image's name without a digest follows the
// grammar of the distribution project's references.
func imageReference(image string) bool {
	m := referenceGrammar().FindStringSubmatch(image)
	return m != nil && len(m[1]) <= 255
}

var referenceGrammar = sync.OnceValue(func() *regexp.Regexp {
	const host = `(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])`
	const part = `[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*`
	return regexp.MustCompile(`^((?:(?:` + host + `(?:\.` + host + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` + part + `(?:/` + part + `)*)(?::[\w][\w.-]{0,127})?$`)
})

func defaultProbe(p *corev1.Probe) {
	orElse(&p.TimeoutSeconds, 1)
	orElse(&p.PeriodSeconds, 10)
	orElse(&p.SuccessThreshold, 1)
	orElse(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		orPointer(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h != nil {
		orElse(&h.Path, "/")
		orElse(&h.Scheme, corev1.URISchemeHTTP)
	}
}

// roundUp keeps quantities to whole thousandths, the finest that is scheduled.
func roundUp(list corev1.ResourceList) {
	for name, q := range list {
		q.RoundUp(resource.Milli)
		list[name] = q
	}
}

func defaultVolume(v *corev1.Volume) {
	if reflect.ValueOf(v.VolumeSource).IsZero() {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if v.HostPath != nil {
		orPointer(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.Secret != nil {
		orPointer(&v.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if v.ConfigMap != nil {
		orPointer(&v.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if v.DownwardAPI != nil {
		orPointer(&v.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		defaultDownward(v.DownwardAPI.Items)
	}
	if v.Projected != nil {
		orPointer(&v.Projected.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
		for i := range v.Projected.Sources {
			src := &v.Projected.Sources[i]
			if src.ServiceAccountToken != nil {
				orPointer(&src.ServiceAccountToken.ExpirationSeconds, 60*60)
			}
			if src.DownwardAPI != nil {
				defaultDownward(src.DownwardAPI.Items)
			}
		}
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		defaultClaimSpec(&v.Ephemeral.VolumeClaimTemplate.Spec)
	}
	if v.Image != nil {
		if v.Image.PullPolicy == "" {
			v.Image.PullPolicy = pullPolicy(v.Image.Reference)
		}
	}
	if v.ISCSI != nil {
		orElse(&v.ISCSI.ISCSIInterface, "default")
	}
	if v.RBD != nil {
		orElse(&v.RBD.RBDPool, "rbd")
		orElse(&v.RBD.RadosUser, "admin")
		orElse(&v.RBD.Keyring, "/etc/ceph/keyring")
	}
	if v.ScaleIO != nil {
		orElse(&v.ScaleIO.StorageMode, "ThinProvisioned")
		orElse(&v.ScaleIO.FSType, "xfs")
	}
	defaultAzureDisk(v.AzureDisk)
}

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	if d != nil {
		orPointer(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		orPointer(&d.Kind, corev1.AzureSharedBlobDisk)
		orPointer(&d.FSType, "ext4")
		orPointer(&d.ReadOnly, false)
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			orElse(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}

func defaultClaimSpec(s *corev1.PersistentVolumeClaimSpec) {
	orPointer(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Resources.Limits)
	roundUp(s.Resources.Requests)
}
