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
	held, err := claim(cfg.DataDir)
	if err != nil {
		return err
	}
	defer held.release()
	tel := telemetry.Discard()
	err = errors.Join(
		node.Down(ctx, node.Config{
			Name: cfg.NodeName, DataDir: cfg.DataDir, RunDir: cfg.RunDir, BinDir: cfg.BinDir, RuntimeEndpoint: cfg.RuntimeEndpoint,
			ImageDirs: cfg.ImageDirs, NodeIPs: []string{cfg.Address},
		}, tel),
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
