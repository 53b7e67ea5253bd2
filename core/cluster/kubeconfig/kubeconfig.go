package kubeconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"binnacle.io/core/cluster/atomicfile"
	"binnacle.io/core/cluster/pki"
)

// New returns a configuration with one cluster, one user and one context, all
// called name; the context is the current one.
func New(name, server string, ca, client *pki.Pair) *clientcmdapi.Config {
	cfg := clientcmdapi.NewConfig()
	cluster := clientcmdapi.NewCluster()
	cluster.Server = server
	cluster.CertificateAuthorityData = ca.CertPEM
	user := clientcmdapi.NewAuthInfo()
	user.ClientCertificateData = client.CertPEM
	user.ClientKeyData = client.KeyPEM
	context := clientcmdapi.NewContext()
	context.Cluster = name
	context.AuthInfo = name
	cfg.Clusters[name] = cluster
	cfg.AuthInfos[name] = user
	cfg.Contexts[name] = context
	cfg.CurrentContext = name
	return cfg
}

// Write replaces the file at path; its directory is made when missing.
func Write(path string, cfg *clientcmdapi.Config) error {
	text, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("cannot encode kubeconfig %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of kubeconfig %s: %w", path, err)
	}
	return atomicfile.Write(path, text, 0o600)
}

// Merge adds cfg's entries to the file at path, replacing those of the same
// names, and makes cfg's context the current one. A missing file is made.
func Merge(path string, cfg *clientcmdapi.Config) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	have, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Write(path, cfg)
	}
	if err != nil {
		return fmt.Errorf("cannot merge into kubeconfig %s: %w; repair or remove that file", path, err)
	}
	for name, c := range cfg.Clusters {
		have.Clusters[name] = c
	}
	for name, u := range cfg.AuthInfos {
		have.AuthInfos[name] = u
	}
	for name, c := range cfg.Contexts {
		have.Contexts[name] = c
	}
	have.CurrentContext = cfg.CurrentContext
	return Write(path, have)
}
