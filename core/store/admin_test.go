package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/telemetry"
)

// served is a store as a program would run it, with its sockets.
func served(t *testing.T) Config {
	run := shortDir(t)
	return Config{
		Dir: t.TempDir(), NoFsync: true, ListenClient: "unix://" + filepath.Join(run, "etcd", "client.sock"),
		ControlSocket: filepath.Join(run, "etcd", "control.sock"),
		Encryption:    Encryption{File: filepath.Join(t.TempDir(), "encryption.yaml"), Resources: []string{"configmaps"}},
	}
}

func administer(t *testing.T, cfg Config) *Admin {
	t.Helper()
	a := must(Administer(t.Context(), cfg, telemetry.Discard()))(t)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestAdministerRunningAndStopped(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := served(t)
	if _, err := Administer(ctx, cfg, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), "cannot find etcd's data in "+cfg.Dir) {
		t.Errorf("nothing there: %v", err)
	}
	s := open(t, cfg)
	for _, socket := range []string{strings.TrimPrefix(cfg.ListenClient, "unix://"), cfg.ControlSocket} {
		if st := must(os.Stat(socket))(t); st.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s is %o", socket, st.Mode().Perm())
		}
		if st := must(os.Stat(filepath.Dir(socket)))(t); st.Mode().Perm() != 0o700 {
			t.Errorf("mode of the directory of %s is %o", socket, st.Mode().Perm())
		}
	}
	for i := range 100 {
		must(s.Create(ctx, configMaps, configMap("ns", fmt.Sprint(i), strings.Repeat("x", 10<<10))))(t)
	}
	for i := range 100 {
		must(s.Delete(ctx, configMaps, key("ns", fmt.Sprint(i)), Preconditions{}, nil))(t)
	}
	for _, running := range []bool{true, false} {
		a := administer(t, cfg)
		if a.Running != running {
			t.Errorf("running: %v, want %v", a.Running, running)
		}
		members := must(a.MemberList(ctx))(t)
		if len(members.Members) != 1 || members.Members[0].Name != "binnacle" {
			t.Errorf("members %v", members.Members)
		}
		before := must(a.Status(ctx))(t)[0].Status
		rev := must(a.CompactTo(ctx, 0))(t)
		if _, err := a.CompactTo(ctx, rev); err == nil || !strings.Contains(err.Error(), "has been compacted") {
			t.Errorf("second compaction to %d: %v", rev, err)
		}
		if err := a.Defragment(ctx); err != nil {
			t.Error(err)
		}
		after := must(a.Status(ctx))(t)[0].Status
		if running && after.DbSize >= before.DbSize {
			t.Errorf("%d bytes after defragmentation of %d", after.DbSize, before.DbSize)
		}
		if h := a.Health(ctx); len(h) != 1 || !h[0].Healthy || h[0].Error != "" {
			t.Errorf("health %+v", h)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if running {
			// What the store serves is not disturbed.
			must(s.Create(ctx, configMaps, configMap("ns", "after", "1")))(t)
			out := must(AskToRotateKeys(ctx, cfg.ControlSocket))(t)
			if len(out.Keys) != 1 || out.Rewritten != 1 {
				t.Errorf("rotation %+v", out)
			}
			readable(t, s, "after", "1")
			shut(t, s)
			if _, err := AskToRotateKeys(ctx, cfg.ControlSocket); !errors.Is(err, ErrNobodyRuns) {
				t.Errorf("rotation of a stopped store: %v", err)
			}
			// Something for the next compaction.
			s = open(t, cfg)
			must(s.Create(ctx, configMaps, configMap("ns", "again", "1")))(t)
			shut(t, s)
		}
	}
}

func TestSnapshotAndRestore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := served(t)
	file := filepath.Join(t.TempDir(), "snapshot.db")
	s := open(t, cfg)
	must(s.Create(ctx, configMaps, configMap("ns", "kept", "1")))(t)
	a := administer(t, cfg)
	if err := a.Save(ctx, file); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(ctx, file); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("overwrote a snapshot: %v", err)
	}
	a.Close()
	at := s.Revision()
	st := must(StatSnapshot(file, telemetry.Discard()))(t)
	if st.Revision < at-1 || st.TotalKey < 1 || st.TotalSize == 0 {
		t.Errorf("status %+v, revision was %d", st, at)
	}
	c := must(s.Watch(ctx, configMaps, 0, Filter{}))(t)
	seen := c.Bookmark()
	c.Close()
	must(s.Create(ctx, configMaps, configMap("ns", "lost", "1")))(t)
	last := s.Revision()
	if _, err := RestoreSnapshot(ctx, cfg, Restore{Snapshot: file, Replace: true}, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), "is running on it") {
		t.Errorf("restored under a running store: %v", err)
	}
	shut(t, s)
	if _, err := RestoreSnapshot(ctx, cfg, Restore{Snapshot: file}, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), "there is data in") {
		t.Errorf("overwrote data: %v", err)
	}

	previous := last
	for round := range 2 {
		out := must(RestoreSnapshot(ctx, cfg, Restore{Snapshot: file, Replace: true}, telemetry.Discard()))(t)
		if out.Revision <= previous || len(out.MissingKeys) > 0 || out.Kept == "" {
			t.Errorf("round %d: %+v after revision %d", round, out, previous)
		}
		if _, err := os.Stat(filepath.Join(out.Kept, "member", "snap", "db")); err != nil {
			t.Errorf("the old data is not kept: %v", err)
		}
		s = open(t, cfg)
		readable(t, s, "kept", "1")
		if _, err := s.Get(ctx, configMaps, key("ns", "lost"), Latest()); !apierrors.IsNotFound(err) {
			t.Errorf("what was written after the snapshot is there: %v", err)
		}
		// Those who watched before must not go on as if nothing had happened.
		for _, from := range []int64{seen, last} {
			if c, err := s.Watch(ctx, configMaps, from, Filter{}); !apierrors.IsResourceExpired(err) {
				t.Errorf("watch from %d of before: %v", from, err)
				c.Close()
			}
		}
		made := must(s.Create(ctx, configMaps, configMap("ns", "new", "1")))(t)
		if made.Revision <= out.Revision {
			t.Errorf("revision %d after restoring to %d", made.Revision, out.Revision)
		}
		previous = s.Revision()
		shut(t, s)
	}
}

func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := served(t)
	s := open(t, cfg)
	must(s.Create(ctx, configMaps, configMap("ns", "c", "1")))(t)
	good := filepath.Join(dir, "good")
	a := administer(t, cfg)
	if err := a.Save(ctx, good); err != nil {
		t.Fatal(err)
	}
	a.Close()
	shut(t, s)
	b := must(os.ReadFile(good))(t)
	cut, changed := filepath.Join(dir, "cut"), filepath.Join(dir, "changed")
	if err := os.WriteFile(cut, b[:len(b)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(changed, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		garbage: "invalid database", filepath.Join(dir, "absent"): "no such file", cut: "missing hash", changed: "expected sha256",
	} {
		target := Config{Dir: t.TempDir()}
		if _, err := RestoreSnapshot(ctx, target, Restore{Snapshot: file}, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", filepath.Base(file), err, want)
		}
		if left := must(filepath.Glob(filepath.Join(target.Dir, "etcd*")))(t); len(left) > 0 {
			t.Errorf("%s left %v", filepath.Base(file), left)
		}
	}
	// A copy of a database has no checksum, and keys may be elsewhere.
	target := Config{Dir: t.TempDir(), Encryption: Encryption{File: filepath.Join(dir, "other.yaml")}}
	out := must(RestoreSnapshot(ctx, target, Restore{Snapshot: cut, Database: true}, telemetry.Discard()))(t)
	if len(out.MissingKeys) != 1 || !strings.HasPrefix(out.MissingKeys[0], "k8s:enc:aesgcm:v1:key-") || out.Kept != "" {
		t.Errorf("restored %+v", out)
	}
	if _, err := RestoreSnapshot(ctx, Config{Endpoints: []string{"http://127.0.0.1:1"}}, Restore{Snapshot: good}, telemetry.Discard()); err == nil || !strings.Contains(err.Error(), "not embedded") {
		t.Errorf("restored into someone else's etcd: %v", err)
	}
}

// TestOpensUpstreamSnapshot restores what an etcd of upstream's making holds:
// another member name and cluster, upstream's keys, kinds nobody serves here.
func TestOpensUpstreamSnapshot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := shortDir(t)
	ec := embed.NewConfig()
	ec.Name, ec.Dir, ec.ZapLoggerBuilder = "control-plane", filepath.Join(dir, "etcd"), embed.NewZapLoggerBuilder(zapLogger(telemetry.Discard().Log))
	ec.InitialClusterToken = "other"
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.ListenPeerUrls, ec.UnsafeNoFsync, ec.EnableGRPCGateway = nil, true, false
	socket := "unix://" + filepath.Join(dir, "s")
	u := must(url.Parse(socket))(t)
	ec.ListenClientUrls, ec.AdvertiseClientUrls = []url.URL{*u}, []url.URL{*u}
	e := must(embed.StartEtcd(ec))(t)
	defer e.Close()
	<-e.Server.ReadyNotify()
	upstream := must(Administer(ctx, Config{Endpoints: []string{socket}}, telemetry.Discard()))(t)
	defer upstream.Close()
	cm := configMap("kube-system", "extension-apiserver-authentication", "1")
	value := must(encode(testKinds()[2], cm))(t)
	for key, value := range map[string]string{
		"/registry/configmaps/kube-system/extension-apiserver-authentication": string(value),
		"/registry/example.com/widgets/ns/w":                                  `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w","namespace":"ns"}}`,
		"/registry/ranges/serviceips":                                         "k8s\x00...",
		"compact_rev_key":                                                     "17",
	} {
		must(upstream.Put(ctx, key, value))(t)
	}
	must(upstream.Txn(ctx).Then(clientv3.OpDelete("/registry/ranges/serviceips")).Commit())(t)
	file := filepath.Join(dir, "snapshot.db")
	if err := upstream.Save(ctx, file); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: t.TempDir(), NoFsync: true}
	must(RestoreSnapshot(ctx, cfg, Restore{Snapshot: file}, telemetry.Discard()))(t)
	s := open(t, cfg)
	got := must(s.Get(ctx, configMaps, key("kube-system", "extension-apiserver-authentication"), Latest()))(t)
	if got.Object.(*corev1.ConfigMap).Data["v"] != "1" {
		t.Errorf("upstream's ConfigMap is %+v", got.Object)
	}
	members := must(s.etcd.MemberList(ctx))(t)
	if len(members.Members) != 1 || members.Members[0].Name != "binnacle" {
		t.Errorf("members %v", members.Members)
	}
}

func TestInterruptedRestoreKeepsOldData(t *testing.T) {
	t.Parallel()
	cfg := served(t)
	file := filepath.Join(t.TempDir(), "snapshot.db")
	s := open(t, cfg)
	must(s.Create(t.Context(), configMaps, configMap("ns", "c", "1")))(t)
	a := administer(t, cfg)
	if err := a.Save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	a.Close()
	shut(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if _, err := RestoreSnapshot(ctx, cfg, Restore{Snapshot: file, Replace: true}, telemetry.Discard()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("restored out of time: %v", err)
	}
	s = open(t, cfg)
	readable(t, s, "c", "1")
}
