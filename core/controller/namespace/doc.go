// Package namespace empties and removes namespaces that are being deleted.
//
// It owns the kubernetes finalizer of namespaces. It promises to remove it only
// when no object of any namespaced kind is left, and to say in the namespace's
// conditions what is. It refuses to force: objects that wait for their own
// finalizers are waited for.
package namespace
