package nodelifecycle

import (
	"context"
	"encoding/json"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

// NewTaintEviction returns the controller that deletes pods from nodes with
// NoExecute taints once they no longer tolerate them.
func NewTaintEviction() controller.Controller {
	return controller.Controller{
		Name:    "taint-eviction",
		Account: "node-controller",
		Inputs: []controller.Input{
			{Resource: podsResource, Keys: controller.Self},
			{Resource: nodesResource, Keys: func(s controller.State, o client.Object) []client.Key {
				if !hasNoExecute(o.(*corev1.Node)) {
					return nil
				}
				var keys []client.Key
				for _, p := range controller.List[*corev1.Pod](s, "") {
					if p.Spec.NodeName == o.GetName() {
						keys = append(keys, client.KeyOf(p))
					}
				}
				return keys
			}},
		},
		Writes: []string{"pods of tainted nodes", "pods/status of tainted nodes"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			pod, ok := controller.Get[*corev1.Pod](s, key.Namespace, key.Name)
			if !ok || pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
				return p, nil
			}
			n, ok := controller.Get[*corev1.Node](s, "", pod.Spec.NodeName)
			if !ok {
				return p, nil
			}
			switch left := tolerates(pod, n, s.Now()); {
			case left <= 0:
				p.Add(controller.Event(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name),
					disrupted(pod, s.Now()), controller.Delete(pod))
			case left < forever:
				p.Again(left)
			}
			return p, nil
		},
	}
}

// disrupted tells on the pod why it goes (KEP-3329).
func disrupted(pod *corev1.Pod, now time.Time) controller.Action {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
			Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
		}}},
	})
	if err != nil {
		panic(err) // of plain strings and a time
	}
	return controller.Patch(pod, "status", types.StrategicMergePatchType, body)
}

const forever = time.Duration(math.MaxInt64)

func hasNoExecute(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
}

// tolerates returns how long the pod may stay on the node.
func tolerates(pod *corev1.Pod, n *corev1.Node, now time.Time) time.Duration {
	least := forever
	for i := range n.Spec.Taints {
		taint := &n.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		since := now
		if taint.TimeAdded != nil {
			since = taint.TimeAdded.Time
		}
		stay := time.Duration(-1)
		for _, tol := range pod.Spec.Tolerations {
			if !tol.ToleratesTaint(klog.Background(), taint, false) {
				continue
			}
			one := forever
			if tol.TolerationSeconds != nil {
				one = since.Add(time.Duration(*tol.TolerationSeconds) * time.Second).Sub(now)
			}
			if stay < 0 || one < stay {
				stay = one // the shortest toleration that applies, as upstream
			}
		}
		least = min(least, stay)
	}
	return least
}
