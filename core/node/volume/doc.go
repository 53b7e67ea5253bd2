// Package volume makes a pod's volumes on the node's disk and turns them into
// container mounts.
//
// It owns the directory of each pod (<pods>/<uid>): its volumes, sub-path
// mounts, hosts file and termination messages. It promises that volumes made
// from API objects change atomically (all files of one version or none) and
// follow their sources while the pod lives, that secrets and tokens are never
// written to a disk, and that TearDown leaves no mount behind and never deletes
// what a volume only points to. A volume it does not know is ErrUnsupported.
package volume
