// Package bootstraptokens looks after the tokens by which new nodes join.
//
// It owns two controllers: the cleaner deletes a token's Secret when its time
// has come, and the signer keeps one signature per token in the ConfigMap
// kube-public/cluster-info, by which a node that knows the token alone can trust
// the cluster's address and CA.
//
// It refuses to make tokens, and to change the kubeconfig it signs.
package bootstraptokens
