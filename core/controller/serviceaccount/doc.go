// Package serviceaccount gives every namespace what its pods need to call the
// API: the service account "default" and the ConfigMap "kube-root-ca.crt".
//
// It promises to put both back when they are deleted or changed. It refuses to
// make token Secrets: tokens are requested and expire.
package serviceaccount
