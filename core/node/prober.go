package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/probe"
	"binnacle.io/core/node/runtime"
)

// prober holds the probe loops of one pod's running containers.
type prober struct {
	loops map[string]context.CancelFunc // by container ID and probe
	wg    sync.WaitGroup
}

func (p *prober) stop() {
	for _, cancel := range p.loops {
		cancel()
	}
	p.wg.Wait()
}

// A probe's type as upstream names it in events and metrics.
const (
	liveness  = "Liveness"
	readiness = "Readiness"
	startup   = "Startup"
)

// syncProbes starts the loops that running containers need and stops those of
// containers that ended. A startup probe comes before the others; a pod that
// ends is only asked whether it is ready.
func (w *worker) syncProbes(ctx context.Context, in *podstate.Input) {
	wanted := map[string]bool{}
	ending := in.Removed || in.Rejected != nil || in.Pod.DeletionTimestamp != nil
	for i := range in.Containers {
		c := &in.Containers[i]
		spec := findContainer(in.Pod, c.Name)
		if spec == nil || c.State != runtime.Running || c.Type == runtime.Ephemeral {
			continue
		}
		if in.Busy[podstate.Task{Kind: podstate.StartContainer, Name: c.Name}] && spec.Lifecycle != nil && spec.Lifecycle.PostStart != nil {
			continue
		}
		w.seedProbes(in, c, spec)
		started := spec.StartupProbe == nil || in.Memory.Probes[c.ID].Started
		need := func(kind string, p *corev1.Probe) {
			if p == nil {
				return
			}
			key := c.ID + "/" + kind
			wanted[key] = true
			w.probeLoop(ctx, in, key, kind, *c, spec, p)
		}
		if !started && !ending {
			need(startup, spec.StartupProbe)
		}
		if started && !ending {
			need(liveness, spec.LivenessProbe)
		}
		if started {
			need(readiness, spec.ReadinessProbe)
		}
	}
	for key, cancel := range w.prober.loops {
		if !wanted[key] {
			cancel()
			delete(w.prober.loops, key)
		}
	}
}

// seedProbes takes over the verdicts of a former agent on a container that
// still runs, so that a restart of the agent makes nothing unready.
func (w *worker) seedProbes(in *podstate.Input, c *runtime.Container, spec *corev1.Container) {
	if _, ok := in.Memory.Probes[c.ID]; ok {
		return
	}
	var p podstate.Probes
	for _, list := range [][]corev1.ContainerStatus{in.Pod.Status.ContainerStatuses, in.Pod.Status.InitContainerStatuses} {
		for i := range list {
			if s := &list[i]; s.ContainerID == podstate.ContainerID(c.ID) {
				p.Ready = s.Ready
				p.Started = s.Started != nil && *s.Started
			}
		}
	}
	in.Memory.Probes[c.ID] = p
	w.mu.Lock()
	w.probes[c.ID] = p
	w.mu.Unlock()
}

func (w *worker) probeLoop(ctx context.Context, in *podstate.Input, key, kind string, c runtime.Container, spec *corev1.Container, p *corev1.Probe) {
	if w.prober.loops == nil {
		w.prober.loops = map[string]context.CancelFunc{}
	}
	if _, ok := w.prober.loops[key]; ok {
		return
	}
	lctx, cancel := context.WithCancel(ctx)
	w.prober.loops[key] = cancel
	pod := in.Pod
	ip := first(w.podIPs(in))
	// Many probes of a restarted agent are spread over their first period.
	var jitter time.Duration
	if since := time.Since(w.a.began); c.StartedAt.Before(w.a.began) && time.Duration(p.PeriodSeconds)*time.Second > since {
		jitter = rand.N(time.Duration(max(p.PeriodSeconds, 1)) * time.Second)
	}
	target := probe.Target{Container: spec, ID: c.ID, PodIP: ip, Version: "1.37"}
	w.prober.wg.Go(func() {
		defer cancel()
		probe.Loop(lctx, w.a.runtime, target, p, c.StartedAt, jitter, func(r probe.Report) bool {
			return w.probed(pod, c.ID, kind, spec, p, r)
		})
	})
}

func (w *worker) podIPs(in *podstate.Input) []string {
	if in.Pod.Spec.HostNetwork {
		return w.a.cfg.NodeIPs
	}
	for i := range in.Sandboxes {
		if in.Sandboxes[i].Ready {
			return in.Sandboxes[i].IPs
		}
	}
	return nil
}

// probed takes in one answer. It returns false when the loop has done its
// part.
func (w *worker) probed(pod *corev1.Pod, id, kind string, spec *corev1.Container, p *corev1.Probe, r probe.Report) bool {
	w.a.metrics.probes.WithLabelValues(kind, r.Answer.String(), spec.Name, pod.Name, pod.Namespace, string(pod.UID)).Inc()
	switch r.Answer {
	case probe.Failure:
		w.event(pod, spec, corev1.EventTypeWarning, "Unhealthy", "%s", fmt.Sprintf("%s probe failed: %s", kind, r.Text))
	case probe.Unknown:
		w.event(pod, spec, corev1.EventTypeWarning, "Unhealthy", "%s", fmt.Sprintf("%s probe errored and resulted in unknown state: %s", kind, r.Text))
	}
	if !r.Decided {
		return true
	}
	w.mu.Lock()
	was := w.probes[id]
	now := was
	ok := r.Verdict == probe.Success
	goOn := true
	switch kind {
	case readiness:
		now.Ready = ok
	case startup:
		now.Started = now.Started || ok
		goOn = !ok
		fallthrough
	case liveness:
		if !ok {
			now.Failed = kind
			now.Grace = p.TerminationGracePeriodSeconds
			goOn = false
		}
	}
	w.probes[id] = now
	w.mu.Unlock()
	if now != was {
		w.poke()
	}
	return goOn
}
