package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"
)

// Config is what users may choose about the pod network.
type Config struct {
	// Node is the name of this node's Node object, whose spec.podCIDR gives
	// the pod addresses.
	Node string
	// PodCIDR, when valid, is used instead of the Node object's.
	PodCIDR netip.Prefix
	// ClusterCIDR holds all pods of the cluster; traffic that leaves it is
	// masqueraded. Default 10.244.0.0/16.
	ClusterCIDR netip.Prefix
	// DataDir and RunDir hold state that survives a reboot and state that
	// does not. Defaults /var/lib/binnacle and /run/binnacle.
	DataDir, RunDir string
	// Bridge is the bridge's interface name. Default binnacle0.
	Bridge string
	// MTU of the pods' links. 0 takes that of the default route's interface.
	MTU int
	// Reconcile is how often leaked leases are looked for. Default 1 minute.
	Reconcile time.Duration
	// Namespace is the path of the network namespace that plays the node;
	// empty is the process' own. Several nodes on one machine, in tests, are
	// such namespaces.
	Namespace string
}

// PodTrace returns the W3C traceparent recorded for a pod, or "".
type PodTrace func(ctx context.Context, namespace, name string) string

// TableName is the nftables table this package owns.
const TableName = "binnacle-network"

// PluginType is the CNI plugin's file name.
const PluginType = "binnacle-cni"

func (c Config) withDefaults() (Config, error) {
	if !c.ClusterCIDR.IsValid() {
		c.ClusterCIDR = netip.MustParsePrefix("10.244.0.0/16")
	}
	if c.DataDir == "" {
		c.DataDir = "/var/lib/binnacle"
	}
	if c.RunDir == "" {
		c.RunDir = "/run/binnacle"
	}
	if c.Bridge == "" {
		c.Bridge = "binnacle0"
	}
	if c.Reconcile == 0 {
		c.Reconcile = time.Minute
	}
	var errs []error
	if c.Node == "" && !c.PodCIDR.IsValid() {
		errs = append(errs, errors.New("Node or PodCIDR is needed"))
	}
	if len(c.Bridge) > 15 {
		errs = append(errs, fmt.Errorf("Bridge %q is longer than 15 characters", c.Bridge))
	}
	if !c.ClusterCIDR.Addr().Is4() {
		errs = append(errs, fmt.Errorf("ClusterCIDR %s is not IPv4", c.ClusterCIDR))
	}
	if c.PodCIDR.IsValid() {
		errs = append(errs, usable(c.PodCIDR))
	}
	if c.MTU < 0 {
		errs = append(errs, fmt.Errorf("MTU %d is negative", c.MTU))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("cannot use network configuration: %w", err)
	}
	return c, nil
}

// usable tells why a pod CIDR cannot serve this node.
func usable(p netip.Prefix) error {
	switch {
	case !p.Addr().Is4():
		return fmt.Errorf("pod CIDR %s is not IPv4", p)
	case p.Bits() > 29:
		return fmt.Errorf("pod CIDR %s is too small for pods", p)
	}
	return nil
}

// Socket is the path of the CNI server's socket.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "cni.sock") }

// ConfDir is the folder of CNI configurations for the container runtime.
func (c Config) ConfDir() string { return filepath.Join(c.DataDir, "cni", "net.d") }

func (c Config) conflist() string { return filepath.Join(c.ConfDir(), "10-binnacle.conflist") }

func (c Config) stateDir() string { return filepath.Join(c.DataDir, "network") }
