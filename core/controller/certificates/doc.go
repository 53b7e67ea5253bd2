// Package certificates approves, signs and clears away
// CertificateSigningRequests.
//
// It owns three controllers. The approver lets node agents renew their client
// certificate, and get a first one, where the authorizer allows the requester
// selfnodeclient or nodeclient. The signer issues what has been approved for
// kubernetes.io/kube-apiserver-client, kube-apiserver-client-kubelet,
// kubelet-serving and legacy-unknown, or marks the request Failed with the
// reason. The cleaner deletes requests an hour after they were answered, a day
// after nobody did, and when their certificate has expired.
//
// It promises upstream's rules and words. It refuses every other signer, and to
// approve serving certificates: people do that.
package certificates
