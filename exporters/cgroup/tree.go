package cgroup

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/cgroups/v3"
)

// Version is the layout of the cgroup file system.
type Version int

// The two layouts. A hybrid system, where controllers live in v1 hierarchies,
// is V1.
const (
	V1 Version = 1
	V2 Version = 2
)

// DefaultRoot is where systems mount the cgroup file system.
const DefaultRoot = "/sys/fs/cgroup"

// tree finds the files of a cgroup below a mount point.
type tree struct {
	root    string
	version Version
}

// newTree detects the version unless told. An empty root is DefaultRoot.
func newTree(root string, version Version) (tree, error) {
	if root == "" {
		root = DefaultRoot
	}
	if version == 0 {
		version = V1
		if root == DefaultRoot {
			if cgroups.Mode() == cgroups.Unified {
				version = V2
			}
		} else if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
			version = V2
		}
	}
	t := tree{root: root, version: version}
	probe := t.file("memory", "/", "cgroup.procs")
	if _, err := os.Stat(probe); err != nil {
		return tree{}, fmt.Errorf("cannot find the memory controller of cgroup v%d below %q: %w", version, root, err)
	}
	return t, nil
}

// file names a cgroup's file. The controller matters in v1 only.
func (t tree) file(controller, group, name string) string {
	if t.version == V2 {
		return filepath.Join(t.root, group, name)
	}
	return filepath.Join(t.root, controller, group, name)
}
