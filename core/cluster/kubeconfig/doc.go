// Package kubeconfig writes the files with which people and programs connect.
//
// It owns no file: it writes the ones it is told to, whole or not at all,
// readable by their owner only, and when it merges it keeps whatever else is in
// them. It refuses to merge into a file it does not understand.
package kubeconfig
