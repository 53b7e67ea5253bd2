package podspec

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
)

// Node is what a pod's configuration takes from the node.
type Node struct {
	Name string
	// LogDir holds the pods' log directories (/var/log/pods).
	LogDir string
	// CgroupRoot is the cgroup of all pods (/kubepods).
	CgroupRoot string
	// ClusterDNS and ClusterDomain configure name resolution in the cluster.
	ClusterDNS    []string
	ClusterDomain string
	// HostDNS is the node's own resolver configuration.
	HostDNS DNS
	// Allocatable stands in for limits that are not set.
	Allocatable corev1.ResourceList
	// MemoryCapacity in bytes scales OOM scores.
	MemoryCapacity int64
	// Seccomp says that the runtime can confine by seccomp. Where it cannot,
	// RuntimeDefault is Unconfined; Unconfined names who is affected.
	Seccomp bool
	// SeccompDir holds the profiles of type Localhost.
	SeccompDir string
}

// DNS is a resolver configuration.
type DNS struct {
	Servers, Searches, Options []string
}

// The limits of a resolver's search list, upstream's.
const (
	maxServers  = 3
	maxSearches = 32
)

// Sandbox returns the configuration of the pod's sandbox.
func Sandbox(pod *corev1.Pod, attempt uint32, n *Node) (*cri.PodSandboxConfig, error) {
	if pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers {
		return nil, configError("spec.hostUsers: false is not supported yet")
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return nil, configError("spec.resourceClaims is not supported yet")
	}
	dns, err := resolver(pod, n)
	if err != nil {
		return nil, err
	}
	hostname, err := Hostname(pod, n)
	if err != nil {
		return nil, err
	}
	cfg := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		LogDirectory: filepath.Join(n.LogDir, LogDirName(pod.Namespace, pod.Name, pod.UID)),
		DnsConfig:    &cri.DNSConfig{Servers: dns.Servers, Searches: dns.Searches, Options: dns.Options},
		Labels:       map[string]string{},
		Annotations:  map[string]string{},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    CgroupParent(n.CgroupRoot, pod),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces(pod), Seccomp: seccomp(pod, nil, n)},
		},
	}
	for k, v := range pod.Labels {
		cfg.Labels[k] = v
	}
	for k, v := range pod.Annotations {
		cfg.Annotations[k] = v
	}
	cfg.Labels[runtime.LabelPodUID] = string(pod.UID)
	cfg.Labels[runtime.LabelPodName] = pod.Name
	cfg.Labels[runtime.LabelPodNamespace] = pod.Namespace
	if !pod.Spec.HostNetwork {
		cfg.Hostname = hostname
		cfg.PortMappings = portMappings(pod)
	}
	lsc := cfg.Linux.SecurityContext
	if sc := pod.Spec.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			lsc.RunAsUser = &cri.Int64Value{Value: *sc.RunAsUser}
		}
		if sc.RunAsGroup != nil && sc.RunAsUser != nil {
			lsc.RunAsGroup = &cri.Int64Value{Value: *sc.RunAsGroup}
		}
		lsc.SupplementalGroups = groups(pod)
		for _, s := range sc.Sysctls {
			if cfg.Linux.Sysctls == nil {
				cfg.Linux.Sysctls = map[string]string{}
			}
			cfg.Linux.Sysctls[s.Name] = s.Value
		}
	}
	each(pod, func(c *corev1.Container) {
		if c.SecurityContext != nil && isTrue(c.SecurityContext.Privileged) {
			lsc.Privileged = true
		}
	})
	res := PodResources(pod)
	cfg.Linux.Resources = &cri.LinuxContainerResources{CpuShares: res.Shares, CpuPeriod: res.Period, CpuQuota: res.Quota, MemoryLimitInBytes: res.Memory}
	return cfg, nil
}

// Hostname returns the host name inside the pod.
func Hostname(pod *corev1.Pod, n *Node) (string, error) {
	if pod.Spec.HostNetwork {
		return n.Name, nil
	}
	name := pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	if o := pod.Spec.HostnameOverride; o != nil {
		return *o, nil
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	if isTrue(pod.Spec.SetHostnameAsFQDN) && pod.Spec.Subdomain != "" {
		fqdn := name + "." + Domain(pod, n)
		if len(fqdn) > 64 {
			return "", configError("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", fqdn, len(fqdn))
		}
		return fqdn, nil
	}
	return name, nil
}

// Domain returns the pod's domain by its subdomain, or "".
func Domain(pod *corev1.Pod, n *Node) string {
	if pod.Spec.Subdomain == "" {
		return ""
	}
	return fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, n.ClusterDomain)
}

func namespaces(pod *corev1.Pod) *cri.NamespaceOption {
	o := &cri.NamespaceOption{Network: cri.NamespaceMode_POD, Pid: cri.NamespaceMode_CONTAINER, Ipc: cri.NamespaceMode_POD}
	if pod.Spec.HostNetwork {
		o.Network = cri.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		o.Ipc = cri.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		o.Pid = cri.NamespaceMode_NODE
	case isTrue(pod.Spec.ShareProcessNamespace):
		o.Pid = cri.NamespaceMode_POD
	}
	return o
}

func portMappings(pod *corev1.Pod) []*cri.PortMapping {
	var out []*cri.PortMapping
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			m := &cri.PortMapping{ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP}
			switch p.Protocol {
			case corev1.ProtocolUDP:
				m.Protocol = cri.Protocol_UDP
			case corev1.ProtocolSCTP:
				m.Protocol = cri.Protocol_SCTP
			}
			out = append(out, m)
		}
	}
	for i := range pod.Spec.InitContainers { // the others are gone when the pod serves
		if c := &pod.Spec.InitContainers[i]; podstate.IsSidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}

// resolver returns the pod's resolver configuration by its dnsPolicy.
func resolver(pod *corev1.Pod, n *Node) (DNS, error) {
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork || policy == corev1.DNSClusterFirst && len(n.ClusterDNS) == 0 {
		policy = corev1.DNSDefault
	}
	var d DNS
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		d = DNS{slices.Clone(n.HostDNS.Servers), slices.Clone(n.HostDNS.Searches), slices.Clone(n.HostDNS.Options)}
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, "":
		svc := "svc." + n.ClusterDomain
		d.Servers = slices.Clone(n.ClusterDNS)
		d.Searches = append([]string{pod.Namespace + "." + svc, svc, n.ClusterDomain}, n.HostDNS.Searches...)
		d.Options = []string{"ndots:5"}
	default:
		return DNS{}, configError("spec.dnsPolicy: unknown value %q", policy)
	}
	if c := pod.Spec.DNSConfig; c != nil {
		d.Servers = unique(append(d.Servers, c.Nameservers...))
		d.Searches = unique(append(d.Searches, c.Searches...))
		for _, o := range c.Options {
			opt := o.Name
			if o.Value != nil && *o.Value != "" {
				opt += ":" + *o.Value
			}
			d.Options = slices.DeleteFunc(d.Options, func(s string) bool {
				name, _, _ := strings.Cut(s, ":")
				return name == o.Name
			})
			d.Options = append(d.Options, opt)
		}
	}
	d.Servers = d.Servers[:min(len(d.Servers), maxServers)]
	d.Searches = d.Searches[:min(len(d.Searches), maxSearches)]
	return d, nil
}

func unique(l []string) []string {
	var out []string
	for _, s := range l {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// ParseResolv reads a resolv.conf.
func ParseResolv(text string) DNS {
	var d DNS
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			d.Servers = append(d.Servers, f[1])
		case "search":
			d.Searches = nil
			for _, s := range f[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				d.Searches = append(d.Searches, s)
			}
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}
