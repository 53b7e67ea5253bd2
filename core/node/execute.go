package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/core/node/cgroup"
	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/runtime"
	"binnacle.io/core/node/volume"
)

// Pauses between tries, doubling.
const (
	setupBase, setupMax     = 500 * time.Millisecond, 2*time.Minute + 2*time.Second
	sandboxBase, sandboxMax = 500 * time.Millisecond, 30 * time.Second
	startBase, startMax     = time.Second, 30 * time.Second
	cleanBase, cleanMax     = 200 * time.Millisecond, 30 * time.Second
)

// execute does one action and returns what its end means for the worker.
func (w *worker) execute(ctx context.Context, pod *corev1.Pod, act podstate.Action) (func(*worker), error) {
	switch act.Kind {
	case podstate.Setup:
		return w.doSetup(ctx, pod)
	case podstate.CreateSandbox:
		return w.doCreateSandbox(ctx, pod, act)
	case podstate.PullImage:
		return w.doPull(ctx, pod, act)
	case podstate.StartContainer:
		return w.doStart(ctx, pod, act)
	case podstate.KillContainer:
		return w.doKill(ctx, pod, act)
	case podstate.StopSandbox:
		next, err := again(w.a.runtime.StopSandbox(ctx, act.Name), runtime.IsNotFound)
		if err != nil {
			return next, err
		}
		return func(w *worker) {
			w.mem.Stopped[act.Name] = true
			next(w)
		}, nil
	case podstate.Teardown:
		return w.doTeardown(pod)
	case podstate.DeleteObject:
		return w.doDelete(ctx, pod)
	case podstate.RemoveContainer:
		if err := w.a.runtime.RemoveContainer(ctx, act.Name); err != nil && !runtime.IsNotFound(err) {
			return again(err, runtime.IsNotFound)
		}
		return again(w.a.removeTraces(pod, act), nil)
	case podstate.RemoveSandbox:
		return again(w.a.runtime.RemoveSandbox(ctx, act.Name), runtime.IsNotFound)
	}
	return nil, fmt.Errorf("cannot do %v: unknown action", act.Kind)
}

// again makes the worker look at the runtime once more: at once after success,
// a little later after a failure.
func again(err error, fine func(error) bool) (func(*worker), error) {
	if err == nil || fine != nil && fine(err) {
		return (*worker).changed, nil
	}
	return func(w *worker) { time.AfterFunc(cleanBase*5, w.changed) }, err
}

func (w *worker) setUpVolumes(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
	return w.a.volumes.SetUp(ctx, volume.Request{Pod: pod, Addresses: w.addresses(), Allocatable: w.a.machine.allocatable})
}

func (w *worker) addresses() podspec.Addresses {
	_, v := w.snapshot()
	addr := podspec.Addresses{Host: w.a.cfg.NodeIPs}
	if w.desired().Spec.HostNetwork {
		addr.Pod = w.a.cfg.NodeIPs
		return addr
	}
	for _, s := range v.sandboxes {
		if s.Ready {
			addr.Pod = s.IPs
		}
	}
	return addr
}

func (w *worker) doSetup(ctx context.Context, pod *corev1.Pod) (func(*worker), error) {
	w.a.objects.watchFor(w.a.lifetime, pod, w.stale)
	next, err := w.setUpVolumes(ctx, pod)
	if err == nil {
		return func(w *worker) {
			w.mem.Setup = podstate.Step{Done: true}
			w.mem.Teardown = podstate.Step{}
			w.renewAt = next
		}, nil
	}
	if ctx.Err() == nil {
		w.event(pod, nil, corev1.EventTypeWarning, "FailedMount", "%s", err.Error())
	}
	return func(w *worker) {
		w.mem.Setup = w.mem.Setup.Fail(time.Now(), podstate.Doubling(setupBase, setupMax, w.mem.Setup.Failures+1), "", "")
	}, err
}

func (w *worker) doCreateSandbox(ctx context.Context, pod *corev1.Pod, act podstate.Action) (func(*worker), error) {
	var err error
	if !pod.Spec.HostNetwork {
		err = w.a.awaitNetwork(ctx)
	}
	if err != nil {
		w.event(pod, nil, corev1.EventTypeWarning, "NetworkNotReady", "%s", err.Error())
	} else if _, err = w.createSandbox(ctx, pod, act.Attempt); err != nil {
		w.event(pod, nil, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", runtime.Detail(err))
	}
	if err != nil {
		return func(w *worker) {
			w.mem.Sandbox = w.mem.Sandbox.Fail(time.Now(), podstate.Doubling(sandboxBase, sandboxMax, w.mem.Sandbox.Failures+1), "", "")
			w.changed()
		}, err
	}
	return func(w *worker) {
		w.mem.Sandbox = podstate.Step{}
		w.changed()
	}, nil
}

func (w *worker) createSandbox(ctx context.Context, pod *corev1.Pod, attempt uint32) (string, error) {
	if err := w.a.qos.ensurePod(pod); err != nil {
		return "", err
	}
	cfg, err := podspec.Sandbox(pod, attempt, w.a.spec)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cfg.LogDirectory, 0o755); err != nil {
		return "", fmt.Errorf("cannot create log directory: %w", err)
	}
	handler, err := w.a.handler(ctx, pod)
	if err != nil {
		return "", err
	}
	return w.a.runtime.RunSandbox(ctx, cfg, handler)
}

func (w *worker) doPull(ctx context.Context, pod *corev1.Pod, act podstate.Action) (func(*worker), error) {
	c := findContainer(pod, act.Name)
	if c == nil {
		return nil, fmt.Errorf("cannot find container %q", act.Name)
	}
	img, err := w.ensureImage(ctx, pod, c)
	return func(w *worker) {
		m := w.mem.Containers[act.Name]
		var ie *imageError
		switch {
		case err == nil:
			m.Image = podstate.Step{Done: true}
			w.mu.Lock()
			w.images[act.Name] = img
			w.mu.Unlock()
		case errors.As(err, &ie):
			m.Image = m.Image.Fail(time.Now(), podstate.Doubling(podstate.BackOffBase, podstate.BackOffMax, m.Image.Failures+1), ie.reason, ie.message)
		default:
			m.Image = m.Image.Fail(time.Now(), startBase, "", "")
		}
		w.mem.Containers[act.Name] = m
	}, err
}

// startError is why a container could not be started, as its status shows it.
type startError struct {
	reason string
	err    error
}

func (e *startError) Error() string { return e.reason + ": " + runtime.Detail(e.err) }
func (e *startError) Unwrap() error { return e.err }

func (w *worker) doStart(ctx context.Context, pod *corev1.Pod, act podstate.Action) (func(*worker), error) {
	kind := map[runtime.ContainerType]string{runtime.Main: "container", runtime.Init: "init_container", runtime.Ephemeral: "ephemeral_container"}[act.Type]
	w.a.metrics.started.WithLabelValues(kind).Inc()
	err := w.startContainer(ctx, pod, act)
	if err != nil {
		var se *startError
		reason, message := "CreateContainerError", runtime.Detail(err)
		if errors.As(err, &se) {
			reason, message = se.reason, runtime.Detail(se.err)
		}
		w.a.metrics.startErrors.WithLabelValues(kind, reason).Inc()
		if ctx.Err() == nil {
			w.event(pod, findContainer(pod, act.Name), corev1.EventTypeWarning, "Failed", "Error: %s", message)
		}
		return func(w *worker) {
			m := w.mem.Containers[act.Name]
			m.Start = m.Start.Fail(time.Now(), podstate.Doubling(startBase, startMax, m.Start.Failures+1), reason, message)
			m.Image = podstate.Step{}
			if reason == "RunContainerError" {
				m.Restarts++ // the runtime shows it as an exit
			}
			w.mem.Containers[act.Name] = m
			w.changed()
		}, err
	}
	return func(w *worker) {
		m := w.mem.Containers[act.Name]
		m.Start, m.Image = podstate.Step{}, podstate.Step{}
		m.Restarts = w.restartsBefore(act.Name, act.Attempt, m)
		w.mem.Containers[act.Name] = m
		w.changed()
	}, nil
}

// restartsBefore counts the restarts in a row that lead to a container's
// instance of the given attempt.
func (w *worker) restartsBefore(name string, attempt uint32, m podstate.ContainerMemory) int {
	var last *runtime.Container
	for i := range w.containers {
		// The new instance may have been observed already.
		if c := &w.containers[i]; c.Name == name && c.Attempt < attempt && (last == nil || c.Attempt > last.Attempt) {
			last = c
		}
	}
	switch {
	case last == nil:
		return 0
	case podstate.RanLong(last.StartedAt, last.FinishedAt):
		return 1
	case m.Restarts == 0: // not remembered: an agent before this one did them
		return int(last.Attempt) + 1
	}
	return m.Restarts + 1
}

func (w *worker) startContainer(ctx context.Context, pod *corev1.Pod, act podstate.Action) error {
	c := findContainer(pod, act.Name)
	if c == nil {
		return fmt.Errorf("cannot find container %q", act.Name)
	}
	addr := w.addresses()
	start := podspec.Start{Pod: pod, Container: c, Type: act.Type, Attempt: act.Attempt, Addresses: addr, Image: w.image(act.Name)}
	if start.Image.ID == "" {
		img, ok, err := w.a.runtime.Image(ctx, c.Image)
		if err != nil || !ok {
			return &startError{"CreateContainerError", fmt.Errorf("image %q is not there: %v", c.Image, err)}
		}
		start.Image = img
	}
	if act.Type == runtime.Ephemeral {
		target, err := w.target(pod, act.Name)
		if err != nil {
			return err
		}
		start.Target = target
	}
	if err := w.mounts(ctx, &start); err != nil {
		return err
	}
	cc, err := podspec.Container(ctx, start, w.a.spec, w.a.objects)
	if err != nil {
		return configError(err)
	}
	sc, err := podspec.Sandbox(pod, 0, w.a.spec)
	if err != nil {
		return configError(err)
	}
	if err := os.MkdirAll(filepath.Join(sc.LogDirectory, c.Name), 0o755); err != nil {
		return fmt.Errorf("cannot create log directory: %w", err)
	}
	id, err := w.a.runtime.CreateContainer(ctx, act.Sandbox, sc, cc)
	if err != nil {
		return &startError{"CreateContainerError", err}
	}
	w.event(pod, c, corev1.EventTypeNormal, "Created", "Container created")
	if err := w.a.runtime.StartContainer(ctx, id); err != nil {
		return &startError{"RunContainerError", err}
	}
	w.event(pod, c, corev1.EventTypeNormal, "Started", "Container started")
	w.linkLog(pod, c.Name, id, filepath.Join(sc.LogDirectory, cc.LogPath))
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		return w.postStart(ctx, pod, c, id, addr)
	}
	return nil
}

// target returns the ID of the container whose processes an ephemeral container
// is to see, or "".
func (w *worker) target(pod *corev1.Pod, ephemeral string) (string, error) {
	name := ""
	for i := range pod.Spec.EphemeralContainers {
		if c := &pod.Spec.EphemeralContainers[i]; c.Name == ephemeral {
			name = c.TargetContainerName
		}
	}
	if name == "" {
		return "", nil
	}
	_, v := w.snapshot()
	for i := range v.containers {
		if c := &v.containers[i]; c.Name == name && c.State == runtime.Running {
			return c.ID, nil
		}
	}
	return "", &startError{"CreateContainerError", fmt.Errorf("unable to find target container %s", name)}
}

func configError(err error) error {
	var ce podspec.ConfigError
	if errors.As(err, &ce) {
		return &startError{"CreateContainerConfigError", err}
	}
	return &startError{"CreateContainerError", err}
}

// image returns what the last pull found.
func (w *worker) image(container string) runtime.Image {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images[container]
}

// mounts adds volumes, hosts file and termination message file.
func (w *worker) mounts(ctx context.Context, s *podspec.Start) error {
	env := func(string) (string, bool) { return "", false }
	for _, vm := range s.Container.VolumeMounts {
		if vm.SubPathExpr != "" {
			var err error
			if env, err = podspec.Env(ctx, *s, w.a.spec, w.a.objects); err != nil {
				return configError(err)
			}
			break
		}
	}
	list, err := w.a.volumes.Mounts(s.Pod, s.Container, env)
	if err != nil {
		return &startError{"CreateContainerConfigError", err}
	}
	hostname, err := podspec.Hostname(s.Pod, w.a.spec)
	if err != nil {
		return configError(err)
	}
	hosts, err := w.a.volumes.Hosts(s.Pod, s.Container, s.Addresses.Pod, hostname, podspec.Domain(s.Pod, w.a.spec))
	if err != nil {
		return err
	}
	if hosts != nil {
		list = append(list, hosts)
	}
	s.Mounts = list
	s.MessageFile, err = w.a.volumes.MessageFile(s.Pod, s.Container.Name, s.Attempt)
	return err
}

// logLink is the name under which log collectors find a container's log.
func (a *Agent) logLink(pod *corev1.Pod, container, id string) string {
	return filepath.Join(a.cfg.containerLogsDir(), fmt.Sprintf("%s_%s_%s-%s.log", pod.Name, pod.Namespace, container, id))
}

// linkLog makes the container's log findable under its own name, for log
// collectors.
func (w *worker) linkLog(pod *corev1.Pod, container, id, log string) {
	link := w.a.logLink(pod, container, id)
	if err := os.Symlink(log, link); err != nil && !os.IsExist(err) {
		w.a.tel.Log.Warn("cannot link container log", "link", link, "error", err)
	}
}

func (w *worker) postStart(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, addr podspec.Addresses) error {
	err := w.runHook(ctx, pod, c, id, first(addr.Pod), c.Lifecycle.PostStart)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return &startError{"PostStartHookError", err} // the pod ends and its containers with it
	}
	w.event(pod, c, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	w.event(pod, c, corev1.EventTypeNormal, "Killing", "FailedPostStartHook")
	if kerr := w.a.runtime.StopContainer(ctx, id, podstate.Grace(pod)); kerr != nil {
		err = errors.Join(err, kerr)
	}
	return &startError{"PostStartHookError", err}
}

func first(l []string) string {
	if len(l) == 0 {
		return ""
	}
	return l[0]
}

// leastGrace is what a container gets between signal and kill in any case.
const leastGrace = 2 * time.Second

func (w *worker) doKill(ctx context.Context, pod *corev1.Pod, act podstate.Action) (func(*worker), error) {
	c := findContainer(pod, act.Container)
	w.event(pod, c, corev1.EventTypeNormal, "Killing", "%s", act.Message)
	if c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		hctx, cancel := context.WithDeadline(ctx, act.Deadline)
		err := w.runHook(hctx, pod, c, act.Name, first(w.addresses().Pod), c.Lifecycle.PreStop)
		cancel()
		if err != nil && ctx.Err() == nil && hctx.Err() == nil {
			w.event(pod, c, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
		}
	}
	left := max(time.Until(act.Deadline), leastGrace)
	return again(w.a.runtime.StopContainer(ctx, act.Name, left.Round(time.Second)), runtime.IsNotFound)
}

func (w *worker) doTeardown(pod *corev1.Pod) (func(*worker), error) {
	err := errors.Join(w.a.volumes.TearDown(pod.UID), w.a.qos.removePod(pod))
	w.a.objects.unwatch(pod.UID)
	if err != nil {
		return func(w *worker) {
			w.mem.Teardown = w.mem.Teardown.Fail(time.Now(), podstate.Doubling(cleanBase, cleanMax, w.mem.Teardown.Failures+1), "", "")
		}, err
	}
	return func(w *worker) { w.mem.Teardown = podstate.Step{Done: true} }, nil
}

func (w *worker) doDelete(ctx context.Context, pod *corev1.Pod) (func(*worker), error) {
	zero := int64(0)
	err := client.Delete[*corev1.Pod](ctx, w.a.client, pod.Namespace, pod.Name, client.DeleteOptions{UID: pod.UID, GracePeriodSeconds: &zero})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		// The watch will say Deleted; a pod of another UID under this name
		// means that ours is gone.
		gone := err != nil
		return func(w *worker) {
			w.mem.Deleted = true
			if gone {
				w.remove(nil)
			}
		}, nil
	}
	return func(w *worker) { time.AfterFunc(cleanBase*5, w.poke) }, err
}

// forget removes the last traces of a pod that is gone.
func (w *worker) forget(pod *corev1.Pod) {
	logs := filepath.Join(w.a.cfg.podLogsDir(), podspec.LogDirName(pod.Namespace, pod.Name, pod.UID))
	links, _ := filepath.Glob(filepath.Join(w.a.cfg.containerLogsDir(), fmt.Sprintf("%s_%s_*.log", pod.Name, pod.Namespace)))
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && filepath.Dir(filepath.Dir(target)) == logs {
			os.Remove(l) // a dangling link at worst, which the next sweep takes
		}
	}
	if err := errors.Join(w.a.volumes.Remove(pod.UID), os.RemoveAll(logs), w.a.qos.removePod(pod)); err != nil {
		w.a.tel.Log.Warn("cannot clean up after pod", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	}
	w.a.metrics.logBytes.DeletePartialMatch(map[string]string{"uid": string(pod.UID)})
	w.a.metrics.probes.DeletePartialMatch(map[string]string{"pod_uid": string(pod.UID)})
}

// event records an event on the pod or on one of its containers.
func (w *worker) event(pod *corev1.Pod, c *corev1.Container, kind, reason, format string, args ...any) {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
	if c != nil {
		ref.FieldPath = fieldPath(pod, c.Name)
	}
	w.a.events.EventRef(ref, kind, reason, "%s", fmt.Sprintf(format, args...))
}

func fieldPath(pod *corev1.Pod, name string) string {
	list := "ephemeralContainers"
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			list = "initContainers"
		}
	}
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			list = "containers"
		}
	}
	return "spec." + list + "{" + name + "}"
}

// limits are the cgroup limits of a pod.
func limits(r podspec.Resources) cgroup.Limits {
	return cgroup.Limits{Shares: r.Shares, Quota: r.Quota, Period: r.Period, Memory: r.Memory}
}
