package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"binnacle.io/core/telemetry"
)

// SnapshotStatus is what is in a snapshot file, as etcd's tools tell it.
type SnapshotStatus = snapshot.Status

// StatSnapshot checks a snapshot file and tells what is in it.
func StatSnapshot(file string, tel *telemetry.Component) (SnapshotStatus, error) {
	if err := readableDatabase(file); err != nil {
		return SnapshotStatus{}, fmt.Errorf("cannot read snapshot %s: %w", file, err)
	}
	st, err := snapshot.NewV3(zapLogger(tel.Log)).Status(file)
	if err != nil {
		return st, fmt.Errorf("cannot read snapshot %s: %w", file, reason(err))
	}
	return st, nil
}

// readableDatabase opens a database file briefly: what is wrong with it is an
// error then and not a panic later.
func readableDatabase(file string) error {
	if _, err := os.Stat(file); err != nil {
		return reason(err)
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return reason(err)
	}
	return db.Close()
}

// Restore says what to restore where.
type Restore struct {
	// Snapshot is a file that Save or etcd's tools have written, by
	// Binnacle or upstream. Database allows one without checksum: a copy of
	// a member's database.
	Snapshot string
	Database bool
	// Replace allows there to be data already, which is kept beside.
	Replace bool
}

// Restored is what was done.
type Restored struct {
	// Revision is the one the store goes on from: higher than any that
	// clients have seen before, with all history gone, so that they list
	// anew instead of going on with a past that never was.
	Revision int64 `json:"revision"`
	// Keys is the number of objects and other keys.
	Keys int `json:"keys"`
	// Kept is where the data is that was there before, if any.
	Kept string `json:"kept,omitempty"`
	// MissingKeys are prefixes of values that no key of the encryption
	// file opens.
	MissingKeys []string `json:"missingKeys,omitempty"`
}

// bump is added to the revision a snapshot ends with; etcd's manual has it.
const bump = 1_000_000_000

// RestoreSnapshot puts a snapshot where a stopped store has its data. Whenever
// it dies in between, the directory has the old data or the new, whole.
func RestoreSnapshot(ctx context.Context, cfg Config, from Restore, tel *telemetry.Component) (_ *Restored, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("cannot restore a snapshot: etcd is not embedded; use its own tools where it runs")
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlockDir(lock)
	st, err := StatSnapshot(from.Snapshot, tel)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.Dir, "etcd")
	out := &Restored{Keys: st.TotalKey}
	if out.MissingKeys, err = missingKeys(from.Snapshot, cfg.Encryption); err != nil {
		return nil, err
	}
	highest, exists := st.Revision, false
	if _, err := os.Stat(filepath.Join(dir, "member")); err == nil {
		if exists = true; !from.Replace {
			return nil, fmt.Errorf("cannot restore %s: there is data in %s already", from.Snapshot, dir)
		}
		// Clients may have seen all of it. What is broken has no say.
		if old, err := StatSnapshot(filepath.Join(dir, "member", "snap", "db"), tel); err == nil {
			highest = max(highest, old.Revision)
		}
	}
	more := highest - st.Revision + bump
	out.Revision = st.Revision + more

	beside := filepath.Join(cfg.Dir, "etcd."+time.Now().UTC().Format("20060102T150405.000"))
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(beside))
		}
	}()
	ec, err := embedConfig(cfg, zapLogger(tel.Log))
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := snapshot.NewV3(zapLogger(tel.Log)).Restore(snapshot.RestoreConfig{
		SnapshotPath: from.Snapshot, SkipHashCheck: from.Database,
		Name: ec.Name, OutputDataDir: beside, PeerURLs: []string{ec.AdvertisePeerUrls[0].String()},
		InitialCluster: ec.InitialCluster, InitialClusterToken: ec.InitialClusterToken,
		RevisionBump: uint64(more), MarkCompacted: true,
	}); err != nil {
		return nil, fmt.Errorf("cannot restore %s: %w", from.Snapshot, err)
	}
	if err := syncTree(beside); err != nil {
		return nil, fmt.Errorf("cannot restore %s: %w", from.Snapshot, err)
	}
	if !exists {
		// Nothing of worth: an empty directory at most.
		if err := errors.Join(os.RemoveAll(dir), os.Rename(beside, dir)); err != nil {
			return nil, fmt.Errorf("cannot restore %s: %w", from.Snapshot, err)
		}
	} else {
		if err := unix.Renameat2(unix.AT_FDCWD, beside, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE); err != nil {
			return nil, fmt.Errorf("cannot exchange %s and %s: %w", beside, dir, err)
		}
		out.Kept = beside
	}
	return out, syncDir(cfg.Dir)
}

// missingKeys looks for sealed values that the encryption file cannot open.
func missingKeys(file string, e Encryption) (out []string, err error) {
	ring := &keyring{}
	if e.File != "" {
		cfg, err := readEncryption(e.File)
		if err == nil {
			ring, err = newKeyring(cfg)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("cannot read snapshot %s: %w", file, reason(err))
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		if b == nil {
			return errors.New("it has no keys: not a snapshot of etcd")
		}
		return b.ForEach(func(_, v []byte) error {
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(v, &kv); err != nil {
				return err
			}
			if !bytes.HasPrefix(kv.Value, []byte(sealed)) || ring.knows(kv.Value) {
				return nil
			}
			if p := prefixOf(kv.Value); !slices.Contains(out, p) {
				out = append(out, p)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read snapshot %s: %w", file, err)
	}
	return out, nil
}

// syncTree brings everything below dir to the disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path)
	})
}

// syncDir syncs a directory or file.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
