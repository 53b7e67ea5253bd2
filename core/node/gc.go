package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/podstate"
)

// collect removes dead containers and sandboxes of a pod that nobody needs.
func (w *worker) collect(ctx context.Context, in podstate.Input) {
	if len(in.Containers) < 3 && len(in.Sandboxes) < 2 {
		return
	}
	containers, sandboxes := podstate.Garbage(in)
	for _, id := range containers {
		a := podstate.Action{Task: podstate.Task{Kind: podstate.RemoveContainer, Name: id}}
		for i := range in.Containers {
			if c := &in.Containers[i]; c.ID == id {
				a.Container, a.Attempt = c.Name, c.Attempt
			}
		}
		if !in.Busy[a.Task] && w.busy[a.Task] == nil {
			w.start(ctx, in.Pod, a)
		}
	}
	for _, id := range sandboxes {
		a := podstate.Action{Task: podstate.Task{Kind: podstate.RemoveSandbox, Name: id}}
		if !in.Busy[a.Task] && w.busy[a.Task] == nil {
			w.start(ctx, in.Pod, a)
		}
	}
}

// removeTraces deletes what a removed container left on the disk: its logs,
// their link, and its termination message. Without it a pod that crashes for
// weeks would fill the disk.
func (a *Agent) removeTraces(pod *corev1.Pod, act podstate.Action) error {
	if act.Container == "" {
		return nil // it goes with its pod
	}
	log := filepath.Join(a.cfg.podLogsDir(), podspec.LogDirName(pod.Namespace, pod.Name, pod.UID), podspec.LogPath(act.Container, act.Attempt))
	rotated, err := filepath.Glob(log + ".*")
	errs := []error{err}
	for _, f := range append(rotated, log, a.logLink(pod, act.Container, act.Name)) {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, a.volumes.RemoveMessage(pod.UID, act.Container, act.Attempt))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove what container %q left: %w", act.Name, err)
	}
	return nil
}

// sweepEvery is how often traces of pods without a worker are looked for.
const sweepEvery = time.Minute

// removeLogs deletes the logs of one pod.
func removeLogs(cfg Config, uid types.UID) error {
	dirs, err := filepath.Glob(filepath.Join(cfg.podLogsDir(), "*_"+string(uid)))
	if err != nil {
		return fmt.Errorf("cannot find the logs of pod %q: %w", uid, err)
	}
	var errs []error
	for _, d := range dirs {
		errs = append(errs, os.RemoveAll(d))
	}
	return errors.Join(errs...)
}

// sweep removes what pods left that went while no agent ran: their directories,
// logs and log links.
//
// Nothing is swept before the API was once heard: until then no pod has a
// worker, and those that run would lose their volumes.
func (a *Agent) sweep() {
	if !a.listed.Load() {
		return
	}
	// The directories before the workers: a pod that starts in between has a
	// worker and is not yet among the directories.
	dirs, err := a.volumes.Pods()
	if err != nil {
		a.tel.Log.Warn("cannot look for left-over volumes", "error", err)
	}
	known := map[types.UID]bool{}
	for _, w := range a.allWorkers() {
		known[w.uid] = true
	}
	for _, uid := range dirs {
		if known[uid] {
			continue
		}
		// The logs first: the directory is what tells that they are ours, as
		// another agent may keep its logs in the same place.
		if err := errors.Join(removeLogs(a.cfg, uid), a.volumes.Remove(uid)); err != nil {
			a.tel.Log.Warn("cannot remove what a pod left", "uid", uid, "error", err)
		}
	}
	links, err := os.ReadDir(a.cfg.containerLogsDir())
	if err != nil && !os.IsNotExist(err) {
		a.tel.Log.Warn("cannot look for left-over log links", "error", err)
	}
	for _, e := range links {
		link := filepath.Join(a.cfg.containerLogsDir(), e.Name())
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, a.cfg.podLogsDir()+"/") {
			continue
		}
		if _, err := os.Stat(link); os.IsNotExist(err) {
			if err := os.Remove(link); err != nil {
				a.tel.Log.Warn("cannot remove left-over log link", "error", err)
			}
		}
	}
}
