package node

import (
	"path"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/node/cgroup"
	"binnacle.io/core/node/podspec"
)

// qosTree keeps the cgroups of the pods and of their classes.
type qosTree struct {
	root string
	tree *cgroup.Tree

	mu sync.Mutex
	// burstable holds the CPU shares of each burstable pod; their sum is the
	// class's weight against the guaranteed pods. Guarded by mu.
	burstable map[types.UID]int64
}

const leastShares = 2

func newQOSTree(root string, tree *cgroup.Tree, cpus int64) (*qosTree, error) {
	q := &qosTree{root: root, tree: tree, burstable: map[types.UID]int64{}}
	if err := tree.Ensure(root, cgroup.Limits{Shares: cpus * 1024}); err != nil {
		return nil, err
	}
	for _, class := range []corev1.PodQOSClass{corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		if err := tree.Ensure(podspec.QOSCgroup(root, class), cgroup.Limits{Shares: leastShares}); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// ensurePod makes the pod's cgroup with its limits.
func (q *qosTree) ensurePod(pod *corev1.Pod) error {
	r := podspec.PodResources(pod)
	if err := q.tree.Ensure(podspec.CgroupParent(q.root, pod), limits(r)); err != nil {
		return err
	}
	if podspec.QOS(pod) != corev1.PodQOSBurstable {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.burstable[pod.UID] = r.Shares
	return q.weigh()
}

// adopt counts a pod whose cgroup an earlier agent made.
func (q *qosTree) adopt(pod *corev1.Pod) error {
	if podspec.QOS(pod) != corev1.PodQOSBurstable {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.burstable[pod.UID] = podspec.PodResources(pod).Shares
	return q.weigh()
}

// weigh gives the burstable class the weight of its pods. The caller holds mu.
func (q *qosTree) weigh() error {
	sum := int64(0)
	for _, s := range q.burstable {
		sum += s
	}
	return q.tree.Update(podspec.QOSCgroup(q.root, corev1.PodQOSBurstable), cgroup.Limits{Shares: min(max(sum, leastShares), 262144)})
}

// removePod removes the pod's cgroup, in whatever class it was.
func (q *qosTree) removePod(pod *corev1.Pod) error {
	for _, class := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		if err := q.tree.Remove(path.Join(podspec.QOSCgroup(q.root, class), "pod"+string(pod.UID))); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.burstable[pod.UID]; !ok {
		return nil
	}
	delete(q.burstable, pod.UID)
	return q.weigh()
}
