// Command binnacle is the whole cluster in one program.
//
//	binnacle up [flags]       control plane, node and monitoring, in the foreground
//	binnacle server [flags]   the same; --agent=false leaves the node out
//	binnacle down [flags]     stop what up left running: pods, containerd, network
//	binnacle etcd COMMAND   snapshots, health and keys of the state
//	binnacle version
//
// The file named by --config (YAML, see config.go) says what flags do not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// version is set when released; a build from a checkout says which.
var version = "v0.1.0"

// kubernetesVersion is that of the API this program speaks.
const kubernetesVersion = "v1.37.2"

func main() {
	// Most of the heap is the cluster's state and stays: as much again as room
	// for garbage, Go's default, would double the process.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "binnacle: "+strings.TrimSpace(err.Error()))
		os.Exit(1)
	}
}

// later are commands of the design that are not there yet.
const later = "agent token cert diagnose"

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("binnacle "+command, flag.ContinueOnError)
	file := flags.String("config", "", "configuration file (default /etc/binnacle/binnacle.yaml, if there)")
	dataDir := flags.String("data-dir", "", "where everything is kept (default /var/lib/binnacle)")
	imageDir := flags.String("images", "", "folder of image archives to import (default: images beside this program)")
	quiet := flags.Bool("quiet", false, "print nothing but errors")
	agent, monitoring := true, true
	if command == "server" {
		flags.BoolVar(&agent, "agent", true, "run a node on this machine as well")
		flags.BoolVar(&monitoring, "monitoring", true, "store metrics and traces, alert, autoscale, serve the UI; without an agent it may be left out, to compare the rest with what has none")
	}
	switch command {
	case "etcd":
		return etcd(ctx, args, os.Stdout)
	case "up", "server", "down":
		if err := flags.Parse(args); err != nil {
			return err
		}
		if flags.NArg() > 0 {
			return fmt.Errorf("cannot understand %q: %s takes flags only", flags.Args(), command)
		}
		cfg, err := loadConfig(*file)
		if err != nil {
			return err
		}
		if *dataDir != "" {
			cfg.DataDir = *dataDir
		}
		if *imageDir != "" {
			cfg.ImageDirs = []string{*imageDir}
		}
		if !monitoring && agent {
			return errors.New("cannot run a node without monitoring: leave out both, with --agent=false --monitoring=false")
		}
		cfg.agent, cfg.monitoring = agent, monitoring
		if err := cfg.complete(); err != nil {
			return err
		}
		if command == "down" {
			return down(ctx, cfg)
		}
		return up(ctx, cfg, newProgress(os.Stdout, *quiet))
	case "version":
		fmt.Println(fullVersion())
		return nil
	case "", "help", "-h", "--help":
		fmt.Println("usage: binnacle up|server|down|etcd|version [flags]; binnacle up --help lists the flags")
		return nil
	}
	if strings.Contains(" "+later+" ", " "+command+" ") {
		return fmt.Errorf("%q is not there yet: docs/status.md lists what is", command)
	}
	return fmt.Errorf("unknown command %q: want up, server, down, etcd or version", command)
}

func fullVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return version + "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}
