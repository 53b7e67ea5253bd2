package job_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/job"
)

// cluster is a model of what the controller meets: it carries plans out, but
// any of them may stop half way, as when the process is killed.
type cluster struct {
	t    *testing.T
	rand *rand.Rand
	now  time.Time
	job  *batchv1.Job
	pods map[string]*corev1.Pod
	made int
	// What really happened to pods that were told to run.
	succeeded, failed int

	c   controller.Controller
	reg *prometheus.Registry
}

func newCluster(t *testing.T, seed uint64, change func(*batchv1.JobSpec)) *cluster {
	labels := map[string]string{batchv1.ControllerUidLabel: "uid"}
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pi", UID: "uid"},
		Spec: batchv1.JobSpec{
			Parallelism: ptr.To[int32](4), Completions: ptr.To[int32](12), BackoffLimit: ptr.To[int32](1000),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever}},
		},
	}
	change(&j.Spec)
	reg := prometheus.NewRegistry()
	return &cluster{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: controllertest.Epoch, job: j, pods: map[string]*corev1.Pod{}, c: job.New(reg), reg: reg}
}

func (c *cluster) state() *controllertest.State {
	objects := []client.Object{c.job}
	for _, name := range c.names() {
		objects = append(objects, c.pods[name])
	}
	return controllertest.NewState(c.t, c.now, objects...)
}

func (c *cluster) names() (names []string) {
	for name := range c.pods {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// reconcile carries a plan out, all of it or some.
func (c *cluster) reconcile(mayStop bool) {
	p, err := c.c.Reconcile(c.t.Context(), c.state(), client.KeyOf(c.job))
	if err != nil {
		c.t.Fatal(err)
	}
	n := len(p.Actions)
	if mayStop && n > 0 && c.rand.IntN(3) == 0 {
		n = c.rand.IntN(n)
	}
	for _, a := range p.Actions[:n] {
		c.do(a)
	}
	if n == len(p.Actions) && p.Report != nil {
		p.Report(controller.Outcome{Done: p.Actions})
	}
}

func (c *cluster) do(a controller.Action) {
	switch a.Op {
	case controller.OpCreate:
		pod := a.Object.DeepCopyObject().(*corev1.Pod)
		c.made++
		pod.Name = fmt.Sprintf("%s%d", pod.GenerateName, c.made)
		pod.UID, pod.CreationTimestamp, pod.Status.Phase = types.UID("uid-"+pod.Name), metav1.NewTime(c.now), corev1.PodRunning
		pod.Spec.NodeName = "n"
		c.pods[pod.Name] = pod
	case controller.OpStatus:
		next := a.Object.(*batchv1.Job)
		for _, before := range c.job.Status.Conditions {
			if (before.Type == batchv1.JobComplete || before.Type == batchv1.JobFailed) && before.Status == corev1.ConditionTrue {
				c.t.Fatalf("the status of a finished job changes to %+v", next.Status)
			}
		}
		c.job = next
	case controller.OpDelete:
		c.change(a.Object.GetName(), func(pod *corev1.Pod) {
			if pod.DeletionTimestamp == nil {
				at := metav1.NewTime(c.now)
				pod.DeletionTimestamp = &at
			}
		})
	case controller.OpPatch:
		var body struct {
			Metadata struct {
				Remove []string `json:"$deleteFromPrimitiveList/finalizers"`
			}
		}
		if err := json.Unmarshal(a.Body, &body); err != nil {
			c.t.Fatal(err)
		}
		c.change(a.Object.GetName(), func(pod *corev1.Pod) {
			pod.Finalizers = slices.DeleteFunc(pod.Finalizers, func(f string) bool { return slices.Contains(body.Metadata.Remove, f) })
		})
	}
}

func (c *cluster) change(name string, f func(*corev1.Pod)) {
	if pod := c.pods[name]; pod != nil {
		pod = pod.DeepCopy()
		f(pod)
		c.pods[name] = pod
	}
}

// live lets things happen to pods: they end, people delete them, and those
// that ended and are deleted go once nothing holds them.
func (c *cluster) live(failing int) {
	for _, name := range c.names() {
		pod := c.pods[name]
		over := pod.Status.Phase != corev1.PodRunning
		switch {
		case over && pod.DeletionTimestamp != nil && len(pod.Finalizers) == 0:
			delete(c.pods, name)
		case over && c.rand.IntN(10) == 0, !over && c.rand.IntN(20) == 0:
			c.do(controller.Delete(pod))
		case over || c.rand.IntN(2) == 0:
		case pod.DeletionTimestamp != nil || c.rand.IntN(100) < failing:
			c.end(name, corev1.PodFailed)
			c.failed++
		default:
			c.end(name, corev1.PodSucceeded)
			c.succeeded++
		}
	}
}

func (c *cluster) end(name string, phase corev1.PodPhase) {
	c.change(name, func(pod *corev1.Pod) {
		pod.Status.Phase = phase
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(c.now)}}}}
	})
}

func (c *cluster) ended() string {
	for _, cond := range c.job.Status.Conditions {
		if (cond.Type == batchv1.JobComplete || cond.Type == batchv1.JobFailed) && cond.Status == corev1.ConditionTrue {
			return string(cond.Type)
		}
	}
	return ""
}

// run plays until the job has ended.
func (c *cluster) run(failing int) {
	for range 2000 {
		c.reconcile(true)
		c.live(failing)
		c.now = c.now.Add(time.Duration(c.rand.IntN(60)) * time.Second)
		if st := c.job.Status; int(st.Succeeded+st.Failed) > c.succeeded+c.failed+len(c.pods) {
			c.t.Fatalf("more counted than ended: %+v", st)
		}
		if c.ended() != "" {
			return
		}
	}
	c.t.Fatalf("the job does not end: %+v", c.job.Status)
}

// A pod that ended is counted once, wherever the controller is stopped.
func TestCountsOnce(t *testing.T) {
	for name, change := range map[string]func(*batchv1.JobSpec){
		// Only failed pods are replaced: what is counted is what happened.
		"plain": func(s *batchv1.JobSpec) { s.PodReplacementPolicy = ptr.To(batchv1.Failed) },
		"indexed": func(s *batchv1.JobSpec) {
			s.PodReplacementPolicy, s.CompletionMode = ptr.To(batchv1.Failed), ptr.To(batchv1.IndexedCompletion)
		},
		"backoff per index": func(s *batchv1.JobSpec) {
			s.PodReplacementPolicy, s.CompletionMode, s.BackoffLimitPerIndex = ptr.To(batchv1.Failed), ptr.To(batchv1.IndexedCompletion), ptr.To[int32](1000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(15) {
				c := newCluster(t, seed, change)
				c.run(30)
				st := c.job.Status
				if c.ended() != "Complete" || st.Succeeded != *c.job.Spec.Completions || int(st.Failed) != c.failed {
					t.Fatalf("seed %d: %s with %d succeeded and %d failed, really %d and %d", seed, c.ended(), st.Succeeded, st.Failed, c.succeeded, c.failed)
				}
				if name == "plain" && int(st.Succeeded) != c.succeeded {
					t.Fatalf("seed %d: %d succeeded, really %d", seed, st.Succeeded, c.succeeded)
				}
				for _, pod := range c.pods {
					if len(pod.Finalizers) > 0 {
						t.Fatalf("seed %d: %s still has %v", seed, pod.Name, pod.Finalizers)
					}
				}
			}
		})
	}
}

// A job whose pods fail too often fails, with all its pods counted.
func TestFailsCounted(t *testing.T) {
	for seed := range uint64(15) {
		c := newCluster(t, seed, func(s *batchv1.JobSpec) { s.BackoffLimit = ptr.To[int32](3) })
		c.run(100)
		if st := c.job.Status; c.ended() != "Failed" || st.Failed <= 3 || st.Active != 0 || *st.Terminating != 0 {
			t.Fatalf("seed %d: %s, %+v", seed, c.ended(), st)
		}
	}
}

func TestMetrics(t *testing.T) {
	c := newCluster(t, 1, func(s *batchv1.JobSpec) {
		s.Parallelism, s.Completions, s.PodReplacementPolicy = ptr.To[int32](2), ptr.To[int32](2), ptr.To(batchv1.TerminatingOrFailed)
	})
	c.reconcile(false)
	for _, name := range c.names() {
		c.end(name, corev1.PodSucceeded)
	}
	for range 3 {
		c.reconcile(false)
	}
	for name, want := range map[string]float64{
		"job_controller_jobs_finished_total": 1, "job_controller_job_pods_finished_total": 2, "job_controller_job_pods_creation_total": 2, "job_controller_job_syncs_total": 3,
	} {
		got := 0.0
		families, err := c.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == name {
					got += m.GetCounter().GetValue()
				}
			}
		}
		if got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if n, err := testutil.GatherAndCount(c.reg, "job_controller_job_sync_duration_seconds"); err != nil || n == 0 {
		t.Errorf("no durations: %d, %v", n, err)
	}
}
