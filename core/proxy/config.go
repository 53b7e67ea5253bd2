package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config is what users may choose about the service proxy.
type Config struct {
	// Node is this node's name; endpoints with it are local.
	Node string
	// ClusterCIDRs hold the pods. Other clients of ClusterIPs are
	// masqueraded. Default 10.244.0.0/16.
	ClusterCIDRs []netip.Prefix
	// Local are service addresses that this node answers itself, such as the
	// cluster DNS address.
	Local []netip.Addr
	// Audit is how often the kernel is compared with the plan. Default 1
	// minute.
	Audit time.Duration
	// Namespace is the path of the network namespace that plays the node;
	// empty is the process' own.
	Namespace string
}

func (c Config) withDefaults() (Config, error) {
	if len(c.ClusterCIDRs) == 0 {
		c.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	}
	if c.Audit == 0 {
		c.Audit = time.Minute
	}
	if c.Node == "" {
		return c, errors.New("cannot use proxy configuration: Node is needed")
	}
	for _, p := range c.ClusterCIDRs {
		if !p.IsValid() {
			return c, fmt.Errorf("cannot use proxy configuration: ClusterCIDRs has an invalid prefix")
		}
	}
	return c, nil
}
