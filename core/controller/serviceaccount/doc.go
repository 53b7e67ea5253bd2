// Package serviceaccount gives every namespace what its pods need to call the
// API: the service account "default" and the ConfigMap "kube-root-ca.crt". It
// fills the token Secrets that people make, and clears away those that earlier
// versions made and nobody uses.
//
// It promises to put accounts and ConfigMaps back when they are deleted or
// changed, and that a token Secret lives no longer than its account. It refuses
// to make token Secrets: tokens are requested and expire.
package serviceaccount
