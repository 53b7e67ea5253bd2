package node

import (
	"path"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/node/podspec"
	"binnacle.io/core/node/runtime"
)

// RunningContainer is a container or sandbox that runs on the node now, for
// those who measure it.
type RunningContainer struct {
	ID             string
	Namespace, Pod string
	PodUID         types.UID
	// Name is empty for the sandbox.
	Name, Image string
	Sandbox     bool
	HostNetwork bool
	// Cgroup is its path below the hierarchy's root.
	Cgroup    string
	StartedAt time.Time
}

// Running lists what runs, from what the pods' workers last saw.
func (a *Agent) Running() []RunningContainer {
	var out []RunningContainer
	for _, w := range a.allWorkers() {
		pod, v := w.snapshot()
		parent := podspec.CgroupParent(a.cfg.CgroupRoot, pod)
		for _, s := range v.sandboxes {
			if s.Ready {
				out = append(out, RunningContainer{
					ID: s.ID, Namespace: pod.Namespace, Pod: pod.Name, PodUID: pod.UID, Sandbox: true, Image: a.cfg.SandboxImage,
					HostNetwork: s.HostNetwork, Cgroup: path.Join(parent, s.ID), StartedAt: s.CreatedAt,
				})
			}
		}
		for _, c := range v.containers {
			if c.State == runtime.Running {
				out = append(out, RunningContainer{
					ID: c.ID, Namespace: pod.Namespace, Pod: pod.Name, PodUID: pod.UID, Name: c.Name, Image: c.Image,
					Cgroup: path.Join(parent, c.ID), StartedAt: c.StartedAt,
				})
			}
		}
	}
	return out
}
