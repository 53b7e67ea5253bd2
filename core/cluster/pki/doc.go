// Package pki makes and renews a cluster's keys and certificates in a
// directory, under the names kubeadm gives them.
//
// It owns the directory's files: two certificate authorities (ca, front-proxy-ca),
// the service-account key pair (sa.key, sa.pub), the serving certificates of
// the API server and of the node agent, and the client certificates of the
// administrator and of the components. It promises that
//
//   - keys are ECDSA P-256 and readable by their owner only,
//   - files appear whole or not at all, key before certificate, so that an
//     interrupted start is completed by the next,
//   - a certificate is made anew when less than 30 % of its life is left, when its
//     names no longer fit, or when its authority has been replaced, and an
//     authority keeps its key when it is renewed, so that what trusts it goes on
//     trusting it.
//
// It refuses to overwrite a file it cannot read or understand, and to make an
// authority anew while files signed by a lost one are still there: the error
// names the file and the remedy.
package pki
