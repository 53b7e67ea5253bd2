package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/node/podstate"
	"binnacle.io/core/node/volume"
	"binnacle.io/core/telemetry"
)

// TestSweepWaitsForTheAPI keeps the volumes of running pods while this node's
// pods are not known yet.
func TestSweepWaitsForTheAPI(t *testing.T) {
	dir := t.TempDir()
	a := &Agent{cfg: Config{DataDir: dir, LogDir: dir}, volumes: volume.New(filepath.Join(dir, "pods"), nil), workers: nil, tel: telemetry.Discard()}
	data := filepath.Join(dir, "pods", "u1", "volumes")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	a.sweep()
	if _, err := os.Stat(data); err != nil {
		t.Errorf("swept before the pods were listed: %v", err)
	}
	a.listed.Store(true)
	a.sweep()
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("not swept: %v", err)
	}
}

// slowObjects answer when their caller gives up.
type slowObjects struct{ asked chan struct{} }

func (s slowObjects) ConfigMap(ctx context.Context, _, _ string) (*corev1.ConfigMap, error) {
	close(s.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (slowObjects) Secret(context.Context, string, string) (*corev1.Secret, error) { return nil, nil }

func (slowObjects) Token(context.Context, *corev1.Pod, string, int64) (string, time.Time, error) {
	return "", time.Time{}, nil
}

// TestRefreshKeepsTeardownWaiting ends a pod while its volumes are brought up to
// date: the update is given up, and nothing is torn down before it is over.
func TestRefreshKeepsTeardownWaiting(t *testing.T) {
	dir := t.TempDir()
	objects := slowObjects{make(chan struct{})}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1", Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}}}}
	a := &Agent{volumes: volume.New(dir, objects), machine: &machine{}, tel: telemetry.Discard()}
	w := a.newWorker(pod, false)
	w.mem.Setup.Done, w.refresh, w.status.stored = true, true, pod
	in := w.input()
	w.refreshVolumes(t.Context(), &in, false)
	<-objects.asked
	now := metav1.Now()
	pod.DeletionTimestamp = &now
	if plan := podstate.Decide(w.input()); len(plan.Actions) > 0 {
		t.Errorf("during the update: %v", plan.Actions)
	}
	w.cancelPulls(pod)
	w.take(<-w.results)
	w.tasks.Wait()
	if plan := podstate.Decide(w.input()); len(plan.Actions) != 1 || plan.Actions[0].Kind != podstate.Teardown {
		t.Errorf("after the update: %v", plan.Actions)
	}
}
