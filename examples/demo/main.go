// Command demo shows on a running node what Binnacle does about load: it
// applies the guestbook with an autoscaler and an alert rule, sends requests for
// a while, prints what happens when, and takes everything away again.
//
//	binnacle up                  in another terminal
//	make demo                    or: go run ./examples/demo --help
//
// It writes to the namespace demo and, in kube-system, to the ConfigMap
// binnacle-demo-rules and the Secret binnacle-alerting, which sends alerts to the
// two receivers that the demo runs on loopback. It refuses to replace a Secret
// that is not its own.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type config struct {
	kubeconfig, url, kubectl, examples string
	quiet, load                        time.Duration
	rate, work                         int
	keep                               bool
}

func main() {
	var cfg config
	flag.StringVar(&cfg.kubeconfig, "kubeconfig", cmp.Or(os.Getenv("KUBECONFIG"), "/etc/binnacle/kubeconfig"), "how to reach the cluster")
	flag.StringVar(&cfg.url, "url", "http://127.0.0.1:9090", "the node's observability address")
	flag.StringVar(&cfg.kubectl, "kubectl", defaultKubectl(), "the kubectl to apply manifests with")
	flag.StringVar(&cfg.examples, "examples", "examples", "folder with guestbook/ and demo/")
	flag.DurationVar(&cfg.load, "load", 25*time.Second, "how long to send requests")
	flag.IntVar(&cfg.rate, "rate", 15, "requests a second")
	flag.IntVar(&cfg.work, "work", 20, "milliseconds of CPU each request costs")
	flag.BoolVar(&cfg.keep, "keep", false, "leave the guestbook, its autoscaler and the rule in place")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: cannot understand %q: it takes flags only\n", flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		if ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		}
		os.Exit(1)
	}
}

// defaultKubectl is the one beside this program, else the one make build makes.
func defaultKubectl() string {
	if exe, err := os.Executable(); err == nil {
		if p := filepath.Join(filepath.Dir(exe), "kubectl"); exists(p) {
			return p
		}
	}
	return filepath.Join("bin", "kubectl")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// run tells the story.
func run(ctx context.Context, cfg config) (err error) {
	c, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	line := newTimeline(os.Stdout)
	r, err := startReceivers(line)
	if err != nil {
		return err
	}
	defer r.Close()
	defer func() {
		// Also after Ctrl-C, but not for ever.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		err = errors.Join(err, c.cleanUp(ctx, line))
	}()

	line.say("demo", "guestbook with autoscaler and alert rule into namespace %s", namespace)
	if err := c.routeAlerts(ctx, r); err != nil {
		return err
	}
	applied := time.Now()
	if err := c.apply(ctx); err != nil {
		return err
	}
	line.say("apply", "kubectl apply returned after %.1f s", time.Since(applied).Seconds())
	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan error, 1)
	s := newScene(c, line)
	go func() { watched <- s.watch(watching) }()
	defer func() {
		stopWatching()
		err = errors.Join(err, <-watched)
	}()

	if err := s.until(ctx, time.Minute, "the front end is ready", func(v view) bool { return v.frontend.ready == 3 && v.frontend.desired == 3 }); err != nil {
		return err
	}
	if err := printTrace(ctx, cfg.url, applied, os.Stdout); err != nil {
		return err
	}
	// What starting costs may have made it grow; that goes again. The autoscaler
	// looks at five seconds: before that, a step of load would not be one.
	line.say("demo", "waiting until the front end has been at rest for %v", rest)
	if err := s.until(ctx, 90*time.Second, "the front end is at rest", func(v view) bool { return v.rested >= rest }); err != nil {
		return err
	}

	address := fmt.Sprintf("http://%s:%d/work?ms=%d", c.node, nodePort, cfg.work)
	line.say("load", "%d requests/s, %d ms of CPU each, for %v: %s", cfg.rate, cfg.work, cfg.load, address)
	begun := time.Now()
	sent := sendLoad(ctx, address, cfg.rate, cfg.load)
	ended := time.Now()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	line.say("load", "over: %s", sent)
	if err := s.until(ctx, 2*time.Minute, "the front end is back at 3 replicas", view.atRest); err != nil {
		return err
	}
	condition, busy, err := c.firstBusy(ctx, begun, ended)
	if err != nil {
		return err
	}
	if !busy {
		line.say("demo", "the alert's condition was never true: more --rate or --work would make it")
	} else if err := r.untilResolved(ctx, time.Minute); err != nil {
		return err
	}
	summary(s, r, begun, ended, condition)
	return nil
}

// rest is how long the front end is at rest before the load.
const rest = 5 * time.Second

// summary prints the figures people ask for. condition is when the alert's first
// held.
func summary(s *scene, r *receivers, begun, ended, condition time.Time) {
	fmt.Println()
	print := func(what, format string, args ...any) { fmt.Printf("  %-38s %s\n", what, fmt.Sprintf(format, args...)) }
	if up, ok := s.scaledAfter(begun); ok {
		print("start of load → more replicas wanted", "%.1f s", up.Sub(begun).Seconds())
	}
	if back, ok := s.lastScaled(); ok && back.After(ended) {
		print("end of load → back at 3 replicas", "%.1f s (hpa.yaml asks it to wait 15 s)", back.Sub(ended).Seconds())
	}
	for _, name := range []string{"webhook", "DingTalk"} {
		if at, got := r.first(name, "firing"); got {
			print("condition true → "+name, "%.1f s", at.Sub(condition).Seconds())
		}
	}
}
