package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
	"binnacle.io/core/telemetry"
)

// etcdCluster is a configuration whose state nobody runs on yet.
type etcdCluster struct {
	*testing.T
	file string
	cfg  *Config
}

func newEtcdCluster(t *testing.T) *etcdCluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd") // short: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &etcdCluster{T: t, file: filepath.Join(dir, "binnacle.yaml")}
	text := fmt.Sprintf("dataDir: %[1]s/data\nrunDir: %[1]s/run\naddress: 127.0.0.1\nencryption: {resources: [secrets, configmaps]}\netcd: {quotaBytes: 100000000, compactEvery: 1m}\n", dir)
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.cfg, err = loadConfig(c.file); err == nil {
		err = c.cfg.complete()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// open runs on the state.
func (c *etcdCluster) open() *store.Store {
	c.Helper()
	cfg := c.cfg.storeConfig()
	cfg.NoFsync = true
	s, err := store.Open(c.Context(), cfg, kind.Builtin(), telemetry.Discard())
	if err != nil {
		c.Fatal(err)
	}
	return s
}

func (c *etcdCluster) close(s *store.Store) {
	c.Helper()
	if err := s.Close(); err != nil {
		c.Error(err)
	}
}

// run runs a command and checks what it prints or how it fails.
func (c *etcdCluster) run(command string, want ...string) string {
	c.Helper()
	var out bytes.Buffer
	err := etcd(context.Background(), append(strings.Fields(command), "--config", c.file), &out)
	text := out.String()
	if err != nil {
		text += err.Error()
	}
	for _, w := range want {
		if w == "fails" {
			if err == nil {
				c.Errorf("etcd %s did not fail: %s", command, text)
			}
		} else if !strings.Contains(text, w) {
			c.Errorf("etcd %s does not say %q: %s", command, w, text)
		}
	}
	if err != nil && !strings.Contains(strings.Join(want, " "), "fails") {
		c.Errorf("etcd %s: %v", command, err)
	}
	return text
}

func secret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{"password": []byte("hidden")}}
}

func TestEtcdCommands(t *testing.T) {
	secrets := client.Resource{Resource: "secrets"}
	c := newEtcdCluster(t)
	file := filepath.Join(t.TempDir(), "snapshot.db")
	c.run("member list", "fails", "cannot find etcd's data")
	c.run("rotate-key", "fails", "nothing is encrypted at rest")
	c.run("snapshot save", "fails", "cannot understand \"snapshot save\"", "usage:")
	c.run("compact x", "fails", "want a revision")
	c.run("status -w xml", "fails", "want table or json")

	s := c.open()
	if _, err := s.Create(t.Context(), secrets, secret("before")); err != nil {
		t.Fatal(err)
	}
	c.run("member list", "| STATUS  |", "| started | binnacle | http://localhost:2380 |", "client.sock")
	c.run("status", "3.7.", "true", "117 MB") // what etcd allows above the configured quota
	c.run("health", "HEALTH", " true |")
	c.run("defrag", "BEFORE")
	c.run("compact", "compacted revision ")
	c.run("rotate-key", "Encrypted 1 values with key-", "encryption.yaml")
	c.run("snapshot save "+file, "Snapshot saved at "+file, "needs "+c.cfg.path("pki", "encryption.yaml"))
	c.run("snapshot save "+file, "fails", "the file exists")
	c.run("snapshot status "+file, "TOTAL KEYS")
	c.run("snapshot restore "+file, "fails", "is running on it")
	if _, err := s.Create(t.Context(), secrets, secret("after")); err != nil {
		t.Fatal(err)
	}
	var members struct{ Members []struct{ Name string } }
	if err := json.Unmarshal([]byte(c.run("member list -w json")), &members); err != nil || len(members.Members) != 1 || members.Members[0].Name != "binnacle" {
		t.Errorf("members %+v, %v", members, err)
	}
	c.close(s)

	c.run("member list", "| started | binnacle |")
	c.run("rotate-key", "Encrypted 2 values with key-")
	c.run("snapshot restore "+file, "fails", "there is data in")
	c.run("snapshot restore --replace "+file, "Restored", "revisions go on from 10000000", "What was there is in "+c.cfg.path("etcd", "etcd."),
		"cannot be read: "+c.cfg.path("pki", "encryption.yaml")+" does not have these keys") // the key was rotated away after the snapshot
	s = c.open()
	defer c.close(s)
	if _, err := s.Get(t.Context(), secrets, client.Key{Namespace: "ns", Name: "after"}, store.Latest()); err == nil {
		t.Error("what was written after the snapshot is there")
	}
	if _, err := s.Get(t.Context(), secrets, client.Key{Namespace: "ns", Name: "before"}, store.Latest()); err == nil || !strings.Contains(err.Error(), "no key for") {
		t.Errorf("the Secret whose key is gone: %v", err)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 20480: "20 kB", 1234567: "1.2 MB", 118000000: "118 MB", 8589934592: "8.6 GB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
