package bootstrap

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"binnacle.io/core/client"
)

// clusterInfo publishes the API server's address and CA, as kubeadm does, for
// nodes that know nothing but a bootstrap token. The bootstrap signer adds a
// signature per token.
func clusterInfo(ctx context.Context, c client.Client, cfg Config) error {
	if !cfg.AdvertiseAddress.IsValid() || len(cfg.ClientCA) == 0 {
		return nil // nobody else can reach this server
	}
	k := clientcmdapi.NewConfig()
	k.Clusters[""] = &clientcmdapi.Cluster{
		Server:                   "https://" + net.JoinHostPort(cfg.AdvertiseAddress.String(), strconv.Itoa(cfg.Port)),
		CertificateAuthorityData: cfg.ClientCA,
	}
	text, err := clientcmd.Write(*k)
	if err != nil {
		return fmt.Errorf("cannot encode cluster-info: %w", err)
	}
	want := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: "cluster-info"},
		Data:       map[string]string{"kubeconfig": string(text)},
	}
	return ensure(ctx, c, want, func(have *corev1.ConfigMap) bool {
		if have.Data["kubeconfig"] == string(text) {
			return false
		}
		if have.Data == nil {
			have.Data = map[string]string{}
		}
		have.Data["kubeconfig"] = string(text)
		return true
	})
}

// legacyTokenTracking records since when uses of legacy service-account tokens
// are recorded on their Secrets.
func legacyTokenTracking(ctx context.Context, c client.Client, _ Config) error {
	const day = "2006-01-02"
	today := time.Now().UTC().Format(day)
	want := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-apiserver-legacy-service-account-token-tracking"},
		Data:       map[string]string{"since": today},
	}
	return ensure(ctx, c, want, func(have *corev1.ConfigMap) bool {
		if _, err := time.Parse(day, have.Data["since"]); err == nil {
			return false
		}
		if have.Data == nil {
			have.Data = map[string]string{}
		}
		have.Data["since"] = today
		return true
	})
}
