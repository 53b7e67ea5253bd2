// Package podspec turns a pod into the configurations a container runtime
// takes.
//
// It owns the translation of pod and container specifications to CRI sandbox
// and container configurations: names, labels, environment, security,
// resources, name resolution, mounts. It promises that the translation depends
// on nothing but its arguments and what its Lookup answers, and that a field it
// cannot honour is an error naming the field, not silence. It refuses to touch
// the runtime or the file system.
package podspec
