package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"binnacle.io/core/client"
	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/podstate"
)

// statusWriter keeps a pod's status in the API as the worker computes it: one
// write at a time, the newest status winning. It belongs to the worker's loop.
type statusWriter struct {
	// stored is the newest state of the object known, from a write's answer.
	stored *corev1.Pod
	// wanted is the status last computed.
	wanted   corev1.PodStatus
	inFlight bool
	clean    bool // stored's status equals wanted
	gone     bool // the API no longer has the object
	failures int
	retryAt  time.Time
}

// latest returns the newer of the desired pod and what the last write left.
func (s *statusWriter) latest(pod *corev1.Pod) *corev1.Pod {
	if s.stored == nil || s.stored.UID != pod.UID || !newer(s.stored.ResourceVersion, pod.ResourceVersion) {
		return pod
	}
	return s.stored
}

// newer compares resource versions, which are decimal numbers.
func newer(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// settled reports that the API has the latest status, or refuses it again and
// again: that must not keep a pod from going.
func (s *statusWriter) settled() bool {
	return s.gone || s.clean && !s.inFlight || s.failures >= giveUpAfter
}

const giveUpAfter = 5

const statusRetryBase, statusRetryMax = 200 * time.Millisecond, 10 * time.Second

// publish makes st visible on the node at once and in the API as soon as
// possible.
func (w *worker) publish(ctx context.Context, in *podstate.Input, st corev1.PodStatus, terminal bool) {
	if st.QOSClass == "" {
		st.QOSClass = podspec.QOS(in.Pod)
	}
	w.mu.Lock()
	w.view = view{w.boxes, w.containers, st, terminal}
	w.mu.Unlock()
	w.noteReady(in.Pod, &st)

	s := &w.status
	s.wanted = st
	s.clean = apiequality.Semantic.DeepEqual(in.Pod.Status, st)
	if in.Removed || s.gone {
		s.gone = true
		return
	}
	if s.clean || s.inFlight || in.Now.Before(s.retryAt) {
		return
	}
	base := in.Pod
	s.inFlight = true
	w.tasks.Go(func() {
		pod, err := w.a.writeStatus(ctx, base, st)
		apply := func(w *worker) { w.wrote(pod, err) }
		select {
		case w.results <- result{apply: apply, serial: -1}:
		case <-ctx.Done():
		}
	})
}

func (w *worker) wrote(pod *corev1.Pod, err error) {
	s := &w.status
	s.inFlight = false
	switch {
	case err == nil:
		w.a.metrics.statusWrites.WithLabelValues("success").Inc()
		s.stored, s.failures, s.retryAt = pod, 0, time.Time{}
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		// The object is gone or another one has its name; the watch says so
		// soon. A conflict of another cause is tried again.
		w.a.metrics.statusWrites.WithLabelValues("conflict").Inc()
		s.gone = apierrors.IsNotFound(err)
		s.retryAt = time.Now().Add(statusRetryBase)
	default:
		w.a.metrics.statusWrites.WithLabelValues("error").Inc()
		s.failures++
		s.retryAt = time.Now().Add(podstate.Doubling(statusRetryBase, statusRetryMax, s.failures))
		w.a.tel.Log.Warn("cannot write pod status", "uid", w.uid, "error", err)
	}
}

// writeStatus patches the difference between the known and the new status, so
// that conditions of other writers stay.
func (a *Agent) writeStatus(ctx context.Context, base *corev1.Pod, st corev1.PodStatus) (*corev1.Pod, error) {
	before, err := json.Marshal(corev1.Pod{Status: base.Status})
	if err != nil {
		return nil, fmt.Errorf("cannot encode pod status: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: base.UID}, Status: st})
	if err != nil {
		return nil, fmt.Errorf("cannot encode pod status: %w", err)
	}
	// The UID is not in before, so it is in the patch: it must match.
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("cannot compute pod status patch: %w", err)
	}
	return client.Patch[*corev1.Pod](ctx, a.client, base.Namespace, base.Name, types.StrategicMergePatchType, patch, client.WriteOptions{Subresource: "status"})
}

// noteReady measures the first time the pod runs and is ready.
func (w *worker) noteReady(pod *corev1.Pod, st *corev1.PodStatus) {
	if w.wasReady || st.Phase == corev1.PodPending {
		return
	}
	ready := false
	for _, c := range st.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			ready = true
		}
	}
	if !ready && st.Phase == corev1.PodRunning {
		return
	}
	w.wasReady = true
	w.span.AddEvent("ready")
	w.span.End()
	if pod.Status.StartTime != nil && pod.Status.Phase != corev1.PodPending {
		return // adopted
	}
	w.a.metrics.podsStarted.Inc()
	w.a.metrics.podStart.Observe(time.Since(w.firstSeen).Seconds())
	w.a.metrics.podStartSLI.Observe(time.Since(pod.CreationTimestamp.Time).Seconds())
}
