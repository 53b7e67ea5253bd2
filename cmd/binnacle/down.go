package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"binnacle.io/core/dns"
	"binnacle.io/core/network"
	"binnacle.io/core/node"
	"binnacle.io/core/proxy"
	"binnacle.io/core/telemetry"
)

// down ends what up left running and removes it from the machine. State,
// images and metrics stay in the data directory.
func down(ctx context.Context, cfg *Config) error {
	held, err := claimAll(cfg)
	if err != nil {
		return err
	}
	defer held.release()
	err = errors.Join(
		removePods(ctx, cfg),
		proxy.Down(ctx, proxy.Config{Node: cfg.NodeName}),
		network.Down(network.Config{Node: cfg.NodeName, DataDir: cfg.DataDir, RunDir: cfg.RunDir}),
		dns.Down(dns.Config{Address: netip.AddrPortFrom(cfg.dnsIP(), 53)}),
		os.RemoveAll(cfg.RunDir),
	)
	if err != nil {
		return fmt.Errorf("cannot remove everything: %w", err)
	}
	fmt.Printf("nothing of binnacle runs here any more; %s keeps its state\n", cfg.DataDir)
	return nil
}

// removePods ends all pods. The runtime asks for their network to be taken
// away, so the pod network answers meanwhile.
func removePods(ctx context.Context, cfg *Config) error {
	first, err := cfg.podCIDR().Addr().Prefix(24)
	if err != nil {
		return err
	}
	pods, err := network.New(network.Config{
		PodCIDR: first, ClusterCIDR: cfg.podCIDR(), DataDir: cfg.DataDir, RunDir: cfg.RunDir,
	}, nil, nil, telemetry.Discard())
	if err != nil {
		return err
	}
	sup := newSupervisor()
	err = sup.start(ctx, "pod network", pods.Run, pods.Ready())
	if err == nil {
		err = node.Down(ctx, node.Config{
			Name: cfg.NodeName, DataDir: cfg.DataDir, RunDir: cfg.RunDir, BinDir: cfg.BinDir, RuntimeEndpoint: cfg.RuntimeEndpoint,
			ImageDirs: cfg.ImageDirs, NodeIPs: []string{cfg.Address},
		}, telemetry.Discard())
	}
	return errors.Join(err, sup.stop())
}
