package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Config is what users may choose about cluster DNS.
type Config struct {
	// Address and port to serve on. Default 10.96.0.10:53.
	Address netip.AddrPort
	// Interface holds the address: a dummy, or a bridge without ports where
	// the kernel has no dummies. Default binnacle-dns; "-" adds none, for an address the machine has already.
	Interface string
	// Domain of the cluster. Default cluster.local.
	Domain string
	// ResolvConf lists the forwarders. Default /etc/resolv.conf.
	ResolvConf string
}

func (c Config) withDefaults() (Config, error) {
	if !c.Address.IsValid() {
		c.Address = netip.MustParseAddrPort("10.96.0.10:53")
	}
	if c.Interface == "" {
		c.Interface = "binnacle-dns"
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	c.Domain = strings.ToLower(strings.Trim(c.Domain, "."))
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	var errs []error
	if strings.ContainsAny(c.Domain, " {}\"\n") {
		errs = append(errs, fmt.Errorf("Domain %q is not a domain name", c.Domain))
	}
	if strings.ContainsAny(c.ResolvConf, " {}\"\n") {
		errs = append(errs, fmt.Errorf("ResolvConf %q has characters a Corefile cannot have", c.ResolvConf))
	}
	if len(c.Interface) > 15 {
		errs = append(errs, fmt.Errorf("Interface %q is longer than 15 characters", c.Interface))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("cannot use DNS configuration: %w", err)
	}
	return c, nil
}

// EventRecorder records events about objects; *events.Recorder is one.
type EventRecorder interface {
	EventRef(about corev1.ObjectReference, kind, reason, format string, args ...any)
}

// Name of the ConfigMap that holds the Corefile, and of its key.
const (
	ConfigMapNamespace = "kube-system"
	ConfigMapName      = "coredns"
	CorefileKey        = "Corefile"
)

// DefaultCorefile is what the ConfigMap holds when this process creates it.
// The cluster's own names are not cached: they are answered from memory, and a
// Service must be found as soon as it is there.
// Forwarders that do not answer cost a client at most two seconds, and nothing
// once health checks found them out.
func DefaultCorefile(domain, forwarders string) string {
	return `.:53 {
    errors
    binnacle ` + domain + ` in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . ` + forwarders + ` {
        max_concurrent 1000
        read_timeout 1s
        max_connect_attempts 2
        failfast_all_unhealthy_upstreams
    }
    cache 30 {
        disable success ` + domain + `
        disable denial ` + domain + `
    }
    loadbalance
}
`
}
