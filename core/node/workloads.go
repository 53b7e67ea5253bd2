package node

import (
	"path"

	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/runtime"
)

// Workload is a sandbox or container that runs, and where the kernel accounts
// for it.
type Workload struct {
	UID            types.UID
	Namespace, Pod string
	// Container is empty for the pod's sandbox.
	Container string
	ID, Image string
	// Cgroup is the path below the hierarchies' mount points; its parent is
	// the pod's.
	Cgroup string
}

// Workloads returns what runs now, for those who measure it.
func (a *Agent) Workloads() []Workload {
	var out []Workload
	for _, w := range a.allWorkers() {
		pod, v := w.snapshot()
		parent := podspec.CgroupParent(a.cfg.CgroupRoot, pod)
		for _, s := range v.sandboxes {
			if s.Ready {
				out = append(out, Workload{UID: pod.UID, Namespace: pod.Namespace, Pod: pod.Name, ID: s.ID, Image: a.cfg.SandboxImage, Cgroup: path.Join(parent, s.ID)})
			}
		}
		for _, c := range v.containers {
			if c.State == runtime.Running {
				out = append(out, Workload{UID: pod.UID, Namespace: pod.Namespace, Pod: pod.Name, Container: c.Name, ID: c.ID, Image: c.Image, Cgroup: path.Join(parent, c.ID)})
			}
		}
	}
	return out
}
