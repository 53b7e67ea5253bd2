package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

var leaseObjectsGR = client.Resource{Group: "coordination.k8s.io", Resource: "leases"}

// spaceKinds are the test's kinds and leases.
func spaceKinds() kinds {
	return append(testKinds(), &kind.Kind{
		Hub: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Resource: "leases", Prefix: "leases",
		New: func() kind.Object { return &coordinationv1.Lease{} },
	})
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	roomy := observed{size: 100 * mb, inUse: 90 * mb, quota: 1000 * mb, reserved: true, diskFree: 10000 * mb, revision: 50}
	for _, c := range []struct {
		name string
		see  func(*observed)
		was  remembered
		want measures
	}{
		{"room", func(*observed) {}, remembered{}, measures{}},
		{"over quota", func(o *observed) { o.inUse, o.size = 1000*mb, 1000*mb }, remembered{}, measures{short: quotaRoom, compact: true}},
		{"still over quota", func(o *observed) { o.inUse, o.size = 960*mb, 1000*mb }, remembered{short: quotaRoom}, measures{short: quotaRoom, compact: true}},
		{"not quite over quota", func(o *observed) { o.inUse, o.size = 960*mb, 1000*mb }, remembered{}, measures{}},
		{"compacted already", func(o *observed) { o.inUse, o.size = 1000*mb, 1000*mb }, remembered{short: quotaRoom, compacted: 50}, measures{short: quotaRoom, settle: true}},
		{"compacted just now", func(o *observed) { o.inUse, o.size = 1000*mb, 1000*mb }, remembered{short: quotaRoom, compacted: 40, compactedAt: now.Add(-time.Second), settledAt: now.Add(-time.Second)}, measures{short: quotaRoom}},
		{"alarm", func(o *observed) { o.alarm, o.size = true, 1200*mb }, remembered{compacted: 50, compactedAt: now}, measures{short: quotaRoom, defrag: true}},
		{"alarm, compaction first", func(o *observed) { o.alarm, o.size = true, 1200*mb }, remembered{}, measures{short: quotaRoom, compact: true}},
		{"alarm after defragmentation", func(o *observed) { o.alarm = true }, remembered{compacted: 50, compactedAt: now.Add(-time.Minute), defrag: now}, measures{short: quotaRoom, disarm: true}},
		{"alarm, nothing more to free", func(o *observed) { o.alarm, o.size, o.inUse = true, 1200*mb, 1190*mb }, remembered{compacted: 50, compactedAt: now.Add(-time.Minute), defrag: now}, measures{short: quotaRoom}},
		{"half is free", func(o *observed) { o.size = 200 * mb }, remembered{}, measures{defrag: true}},
		{"half is free, done lately", func(o *observed) { o.size = 200 * mb }, remembered{defrag: now.Add(-time.Minute)}, measures{}},
		{"half is free, too much to copy at once", func(o *observed) { o.size, o.inUse = 900*mb, 400*mb }, remembered{}, measures{}},
		{"half is free, but not on the disk", func(o *observed) { o.size, o.diskFree = 200*mb, 200*mb }, remembered{}, measures{}},
		{"little is free", func(o *observed) { o.size, o.inUse = 60*mb, 10*mb }, remembered{}, measures{}},
		{"disk full", func(o *observed) { o.diskFree = 90 * mb }, remembered{}, measures{short: diskRoom}},
		{"disk full behind the database", func(o *observed) { o.reserved = false }, remembered{}, measures{short: diskRoom}},
		{"disk almost full", func(o *observed) { o.diskFree = 100 * mb }, remembered{}, measures{}},
		{"disk not empty enough", func(o *observed) { o.diskFree = 100 * mb }, remembered{short: diskRoom}, measures{short: diskRoom}},
		{"disk has room again", func(o *observed) { o.diskFree = 130 * mb }, remembered{short: diskRoom}, measures{}},
	} {
		o := roomy
		c.see(&o)
		if got := decide(o, c.was, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func openSpace(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg, spaceKinds(), telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func heartbeat(name string, n int) *coordinationv1.Lease {
	at := metav1.NewMicroTime(time.Unix(int64(n), 0))
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To(name), RenewTime: &at}}
}

func full(err error) bool { return apierrors.ReasonForError(err) == ReasonInsufficientStorage }

// fillUp creates objects of 100 KB until that is refused.
func fillUp(ctx context.Context, s *Store) (n int, err error) {
	for ; n < 5000; n++ {
		if _, err = s.Create(ctx, configMaps, configMap("ns", fmt.Sprintf("c%d", n), strings.Repeat("x", 100<<10))); err != nil {
			return n, err
		}
	}
	return n, nil
}

// livesWithoutRoom checks what goes on when nothing may grow.
func livesWithoutRoom(ctx context.Context, s *Store) error {
	if _, err := s.Snapshot(ctx, configMaps, Latest()); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if _, err := s.Update(ctx, configMaps, key("ns", "c0"), Preconditions{}, setData(strings.Repeat("x", 200<<10))); !full(err) {
		return fmt.Errorf("an object grew: %v", err)
	}
	if _, err := s.Update(ctx, configMaps, key("ns", "c0"), Preconditions{}, setData(strings.Repeat("y", 100<<10))); err != nil {
		return fmt.Errorf("an object that does not grow: %w", err)
	}
	for i := range 3 {
		if _, err := s.Create(ctx, leaseObjectsGR, heartbeat(fmt.Sprint("node", i), i)); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("a new lease: %w", err)
		}
		if _, err := s.Update(ctx, leaseObjectsGR, key("ns", fmt.Sprint("node", i)), Preconditions{}, func(*Entry) (client.Object, error) {
			return heartbeat(fmt.Sprint("node", i), int(time.Now().Unix())), nil
		}); err != nil {
			return fmt.Errorf("a heartbeat: %w", err)
		}
	}
	// The two steps in which an object with a finalizer leaves.
	if _, err := s.Update(ctx, configMaps, key("ns", "c1"), Preconditions{}, func(cur *Entry) (client.Object, error) {
		cm := cur.Object.DeepCopyObject().(*corev1.ConfigMap)
		cm.DeletionTimestamp, cm.Finalizers = ptr.To(metav1.Now()), []string{"example.com/last"}
		return cm, nil
	}); err != nil {
		return fmt.Errorf("an object that is to be deleted: %w", err)
	}
	c, err := s.Watch(ctx, configMaps, 0, Filter{})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer c.Close()
	if _, err := s.Delete(ctx, configMaps, key("ns", "c1"), Preconditions{}, nil); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if ev, err := c.Next(ctx); err != nil || ev.Type != client.Deleted {
		return fmt.Errorf("watch shows %s, %w", ev.Type, err)
	}
	return nil
}

func TestQuota(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := openSpace(t, Config{Dir: t.TempDir(), NoFsync: true, QuotaBytes: 4 << 20})
	n, err := fillUp(ctx, s)
	if !full(err) || !strings.Contains(err.Error(), "quota of 4194304 bytes; delete objects") {
		t.Fatalf("%d objects over quota: %v", n, err)
	}
	if status := err.(apierrors.APIStatus).Status(); status.Code != 507 {
		t.Errorf("code %d", status.Code)
	}
	if err := livesWithoutRoom(ctx, s); err != nil {
		t.Error(err)
	}
	eventually(t, "the metric says so", func() bool {
		families := must(s.tel.Registry.Gather())(t)
		return metricHas(families, "binnacle_store_full", "reason", "quota")
	})
	// Deleting makes room, without a restart.
	for i := range n {
		if i != 1 {
			must(s.Delete(ctx, configMaps, key("ns", fmt.Sprintf("c%d", i)), Preconditions{}, nil))(t)
		}
	}
	eventually(t, "there is room again", func() bool {
		_, err := s.Create(ctx, configMaps, configMap("ns", "again", strings.Repeat("x", 100<<10)))
		if err != nil && !full(err) {
			t.Fatalf("create after deletions: %v", err)
		}
		return err == nil
	})
}

// TestRefusedTakesNoRoom: what was refused is not counted against what comes
// after it.
func TestRefusedTakesNoRoom(t *testing.T) {
	t.Parallel()
	s := openSpace(t, Config{Dir: t.TempDir(), NoFsync: true, QuotaBytes: 4 << 20})
	for range 3 {
		if s.space.missing(5<<20) != quotaRoom {
			t.Fatal("there is room for more than the quota")
		}
	}
	if w := s.space.missing(1 << 20); w != nothing {
		t.Errorf("no room (%s) after refusals", w)
	}
}

// TestQuotaWhileSomeoneReads: etcd does not count pages that a reader may still
// see. Once it is done, there is room without anybody writing.
func TestQuotaWhileSomeoneReads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := openSpace(t, Config{Dir: t.TempDir(), NoFsync: true, QuotaBytes: 4 << 20})
	n, err := fillUp(ctx, s)
	if !full(err) {
		t.Fatalf("%d objects over quota: %v", n, err)
	}
	reader := s.server.etcd.Server.Backend().ConcurrentReadTx()
	reader.RLock()
	done := sync.OnceFunc(reader.RUnlock)
	defer done()
	for i := range n {
		must(s.Delete(ctx, configMaps, key("ns", fmt.Sprintf("c%d", i)), Preconditions{}, nil))(t)
	}
	deleted := s.server.etcd.Server.KV().Rev()
	eventually(t, "a compaction of what was deleted", func() bool {
		kvs := must(s.etcd.Get(ctx, settleKey))(t).Kvs
		return len(kvs) > 0 && kvs[0].ModRevision > deleted+1
	})
	if s.space.missing(100<<10) == nothing {
		t.Error("room was counted that a reader holds")
	}
	done()
	eventually(t, "there is room again", func() bool {
		_, err := s.Create(ctx, configMaps, configMap("ns", "again", strings.Repeat("x", 100<<10)))
		if err != nil && !full(err) {
			t.Fatalf("create after deletions: %v", err)
		}
		return err == nil
	})
}

// TestEtcdsOwnQuota: even etcd refuses to write, and the store gets it out of
// that once objects are deleted.
func TestEtcdsOwnQuota(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := openSpace(t, Config{Dir: t.TempDir(), NoFsync: true, QuotaBytes: 1 << 20})
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		// Past the store's own limit: as someone else's write.
		_, err = s.etcd.Put(ctx, fmt.Sprintf("/registry/foreign/%d", n), strings.Repeat("x", 1<<20))
	}
	if err == nil || !strings.Contains(err.Error(), "database space exceeded") {
		t.Fatalf("%d MB over quota: %v", n, err)
	}
	if err := s.translate(ctx, err, "write"); !full(err) {
		t.Errorf("etcd's refusal is %v", err)
	}
	for i := range n {
		must(s.etcd.Delete(ctx, fmt.Sprintf("/registry/foreign/%d", i)))(t)
	}
	eventually(t, "there is room again", func() bool {
		_, err := s.Create(ctx, configMaps, configMap("ns", "again", "1"))
		return err == nil
	})
	if size := s.server.etcd.Server.Backend().Size(); size >= hardQuota(1<<20) {
		t.Errorf("the file still has %d bytes", size)
	}
}

// fullDiskDir tells a re-executed test binary, in a mount namespace of its
// own, to fill a small file system mounted there.
const fullDiskDir = "STORE_TEST_FULL_DISK_DIR"

func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullDiskDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func liveOnFullDisk(dir string) int {
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=300m")
	}
	for _, f := range []func(context.Context, string) error{fillDisk, breakDisk} {
		if err == nil {
			err = f(context.Background(), dir)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// takeAll writes a file until the disk is full.
func takeAll(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, chunk := range [][]byte{make([]byte, 1<<20), make([]byte, 4096)} {
		for err = nil; err == nil; {
			_, err = f.Write(chunk)
		}
	}
	return nil // of course
}

func until(what string, is func() (bool, error)) error {
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := is(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("not in time: %s", what)
		}
	}
}

// holds checks that objects c0 to cn are there, but for those left out.
func holds(ctx context.Context, s *Store, n int, but ...string) error {
	snap, err := s.Snapshot(ctx, configMaps, Latest())
	if err != nil {
		return err
	}
next:
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		for _, b := range but {
			if name == b {
				continue next
			}
		}
		if _, ok := snap.Get(key("ns", name)); !ok {
			return fmt.Errorf("acknowledged %s is lost", name)
		}
	}
	return nil
}

// fillDisk: someone else fills the disk; the store refuses to grow, lives on,
// restarts, and writes again when there is room.
func fillDisk(ctx context.Context, dir string) error {
	cfg := Config{Dir: filepath.Join(dir, "first")}
	s, err := Open(ctx, cfg, spaceKinds(), telemetry.Discard())
	if err != nil {
		return err
	}
	defer func() { s.Close() }()
	for i := range 10 {
		if _, err := s.Create(ctx, configMaps, configMap("ns", fmt.Sprintf("c%d", i), strings.Repeat("x", 100<<10))); err != nil {
			return err
		}
	}
	other := filepath.Join(dir, "other")
	if err := takeAll(other); err != nil {
		return err
	}
	// Writers do not wait for the next look.
	n := 10
	if err := until("a write is refused", func() (bool, error) {
		_, err := s.Create(ctx, configMaps, configMap("ns", fmt.Sprintf("c%d", n), strings.Repeat("x", 1<<10)))
		if err == nil {
			n++
		} else if !full(err) || !strings.Contains(err.Error(), "the disk of "+dir) {
			return false, fmt.Errorf("create %d on a full disk: %w", n, err)
		}
		return err != nil, nil
	}); err != nil {
		return err
	}
	if err := livesWithoutRoom(ctx, s); err != nil {
		return fmt.Errorf("on a full disk: %w", err)
	}
	if err := holds(ctx, s, n, "c1"); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(ctx, cfg, spaceKinds(), telemetry.Discard()); err != nil {
		return fmt.Errorf("start on a full disk: %w", err)
	}
	if err := holds(ctx, s, n, "c1"); err != nil {
		return err
	}
	if err := until("writes are refused", func() (bool, error) {
		_, err := s.Create(ctx, configMaps, configMap("ns", fmt.Sprintf("d%d", time.Now().UnixNano()), "1"))
		return full(err), nil
	}); err != nil {
		return err
	}
	if err := os.Remove(other); err != nil {
		return err
	}
	if err := until("there is room again", func() (bool, error) {
		_, err := s.Create(ctx, configMaps, configMap("ns", "again", "1"))
		return err == nil, nil
	}); err != nil {
		return err
	}
	return s.Close()
}

// breakDisk: etcd itself meets the full disk, by writes the store cannot
// refuse. The process ends in order, and nothing acknowledged is lost.
func breakDisk(_ context.Context, dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, "first")); err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullDiskDir+"=", breakDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "other")); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: filepath.Join(dir, "second")}, spaceKinds(), telemetry.Discard())
	if err != nil {
		return err
	}
	defer s.Close()
	var n int
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		return err
	}
	return holds(ctx, s, n)
}

// breakDir tells a re-executed test binary to write there until etcd fails.
const breakDir = "STORE_TEST_BREAK_DIR"

// writeUntilBroken prints how many writes were acknowledged.
func writeUntilBroken(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := Open(ctx, Config{Dir: filepath.Join(dir, "second")}, spaceKinds(), telemetry.Discard())
	if err == nil {
		err = takeAll(filepath.Join(dir, "other"))
	}
	n := -1
	for failed := error(nil); err == nil && failed == nil && n < 300; n++ {
		var value []byte
		value, err = encode(testKinds()[2], configMap("ns", fmt.Sprintf("c%d", n+1), strings.Repeat("x", 1<<20)))
		_, failed = s.etcd.Put(ctx, fmt.Sprintf("/registry/configmaps/ns/c%d", n+1), string(value))
	}
	if err == nil {
		if failed := s.Wait(ctx); failed == nil || !strings.Contains(failed.Error(), "etcd cannot go on") || !strings.Contains(failed.Error(), "no space left on device") {
			err = fmt.Errorf("etcd met the full disk after %d writes: %v", n, failed)
		}
	}
	if err == nil && s.Healthy(ctx) == nil {
		err = errors.New("healthy without etcd")
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(n)
	return 0
}
