// Package containerd keeps the bundled container runtime running.
//
// It owns containerd's configuration, its process and the import of image
// archives into it. It promises that containerd is never tied to the life of
// the agent: killing the agent leaves containerd, shims and pods alone, the
// next agent adopts them, and a containerd that dies is started again with
// back-off. Stopping stops containerd only. It refuses to know what pods are.
package containerd
