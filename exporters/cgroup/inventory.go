package cgroup

import (
	"path"
	"time"
)

// Container is what the node knows about one running container or sandbox.
type Container struct {
	// ID is the runtime's container ID; it becomes the label name.
	ID string
	// Namespace, Pod and PodUID are the pod's.
	Namespace, Pod, PodUID string
	// Name is the container's name in the pod spec; empty for the sandbox.
	Name string
	// Image is the image as the pod spec or the runtime names it.
	Image string
	// Sandbox marks the pod's sandbox ("pause") container.
	Sandbox bool
	// SandboxPID is the host PID of the pod's sandbox process, through which
	// the pod's network namespace is read; 0 when unknown or host network.
	SandboxPID int
	// CgroupPath is the container's cgroup below the hierarchy's root:
	// /kubepods[/burstable|/besteffort]/pod<uid>/<id>.
	CgroupPath string
	// StartedAt is when the container's process started.
	StartedAt time.Time
}

// podPath is the cgroup of the container's whole pod.
func (c *Container) podPath() string { return path.Dir(c.CgroupPath) }

// Inventory lists the containers that run on this node now. It is called from
// several goroutines, once a second or more often, and must be cheap.
type Inventory interface {
	Containers() []Container
}

// Fixed is an Inventory that never changes.
type Fixed []Container

// Containers returns f.
func (f Fixed) Containers() []Container { return f }
