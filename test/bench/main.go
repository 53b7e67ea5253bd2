package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type config struct {
	upstream, binnacle         string // kubeconfigs
	upstreamProc, binnacleProc string // selectors of the shared tool
	tool, dir, json, parts     string
	runs                       int
	quick                      bool
}

// allParts in the order they run: memory at rest comes first since later work
// makes servers keep more.
var allParts = []string{"memory", "read", "etcd", "write", "watch"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&c.upstream, "upstream", "", "kubeconfig of the upstream cluster")
	flags.StringVar(&c.binnacle, "binnacle", "", "kubeconfig of Binnacle")
	flags.StringVar(&c.upstreamProc, "upstream-proc", "apiserver=name:kube-apiserver,etcd=name:etcd", "upstream's server processes: label=PID[+PID...] or label=name:PROGRAM, separated by commas")
	flags.StringVar(&c.binnacleProc, "binnacle-proc", "binnacle=name:binnacle", "the same of Binnacle")
	flags.StringVar(&c.tool, "tool", "../shared/bench", "folder of the shared tool's source")
	flags.StringVar(&c.dir, "dir", os.TempDir(), "folder for the bare etcd, on the disk the clusters use")
	flags.StringVar(&c.json, "json", "", "file for the figures of all runs")
	flags.StringVar(&c.parts, "parts", strings.Join(allParts, ","), "what to measure")
	flags.IntVar(&c.runs, "runs", 5, "runs of each cluster, in turn")
	flags.BoolVar(&c.quick, "quick", false, "one short run: for trying out, not for figures")
	if err := flags.Parse(args); err != nil {
		return err
	}
	parts := strings.Split(c.parts, ",")
	for _, p := range parts {
		if !slices.Contains(allParts, p) {
			return fmt.Errorf("unknown part %q: there are %s", p, strings.Join(allParts, ", "))
		}
	}
	if c.upstream == "" || c.binnacle == "" {
		return errors.New("--upstream and --binnacle must name the kubeconfigs of two running clusters")
	}
	if _, err := os.Stat(filepath.Join(c.tool, "go.mod")); err != nil {
		fmt.Printf("%s is absent: nothing is measured\n", c.tool)
		return nil
	}
	if c.quick {
		c.runs = 1
	}
	b := &bench{config: c, figures: map[string]*figure{}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.clean()
	var failed error
	for _, p := range allParts {
		if !slices.Contains(parts, p) || ctx.Err() != nil {
			continue
		}
		start := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s\n", p)
		if err := b.part(ctx, p); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot measure %s: %w", p, err))
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %s\n", p, time.Since(start).Round(time.Second))
	}
	rows := b.rows()
	return errors.Join(failed, printRows(os.Stdout, rows), b.writeJSON(rows))
}

func (b *bench) part(ctx context.Context, name string) error {
	switch name {
	case "memory":
		return b.memory(ctx)
	case "etcd":
		return b.bareEtcd(ctx)
	}
	arguments := map[string][2][]string{
		"read": {
			{"api-read", "--pods", "10000", "--gets", "10000", "--lists", "5"},
			{"api-read", "--pods", "2000", "--gets", "2000", "--lists", "3"},
		},
		"write": {
			{"api-write", "--objects", "4000"},
			{"api-write", "--objects", "1000"},
		},
		"watch": {
			{"api-watch", "--slow-duration", "15s"},
			{"api-watch", "--duration", "5s", "--slow-duration", "5s", "--initial-pods", "2000", "--initial-lists", "2"},
		},
	}[name]
	args := arguments[0]
	if b.quick {
		args = arguments[1]
	}
	if name != "watch" {
		args = append(args, "--concurrency", fmt.Sprint(clients), "--connections", fmt.Sprint(clients))
	}
	return b.shared(ctx, name, args)
}

// clients is how many ask at once.
const clients = 64
