package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Rotation bounds a container's logs.
type Rotation struct {
	MaxSize  int64 // bytes of the file being written
	MaxFiles int   // with the one being written
}

// Rotate puts the log at path aside if it is too large, has the runtime open
// a new one, and compresses and prunes the old ones.
func (r Rotation) Rotate(path string, now time.Time, reopen func() error) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return resume(path, reopen)
	}
	if err != nil {
		return fmt.Errorf("cannot stat log: %w", err)
	}
	if st.Size() < r.MaxSize {
		return nil
	}
	old, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("cannot list rotated logs: %w", err)
	}
	slices.Sort(old)
	// This rotation adds one; the current file counts too.
	for len(old) > max(r.MaxFiles-2, 0) {
		if err := os.Remove(old[0]); err != nil {
			return fmt.Errorf("cannot remove old log: %w", err)
		}
		old = old[1:]
	}
	for _, f := range old {
		// The newest stays plain for readers that have it open.
		if strings.HasSuffix(f, tmpSuffix) { // half a file, of a compression cut short
			if err := os.Remove(f); err != nil {
				return fmt.Errorf("cannot remove left-over log: %w", err)
			}
			continue
		}
		if !strings.HasSuffix(f, ".gz") {
			if err := compress(f); err != nil {
				return err
			}
		}
	}
	aside := path + "." + now.UTC().Format("20060102-150405")
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("cannot rotate log: %w", err)
	}
	if err := reopen(); err != nil {
		// The runtime still writes to the old file: give it back its name.
		return errors.Join(fmt.Errorf("cannot reopen log %q: %w", path, err), os.Rename(aside, path))
	}
	return nil
}

// resume ends a rotation that was cut short after its renaming: the runtime
// still writes to the file put aside.
func resume(path string, reopen func() error) error {
	aside, err := filepath.Glob(path + ".*")
	if err != nil || len(aside) == 0 {
		return err // nothing was ever written
	}
	if err := reopen(); err != nil {
		return fmt.Errorf("cannot reopen log %q: %w", path, err)
	}
	return nil
}

const tmpSuffix = ".tmp"

func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot open rotated log: %w", err)
	}
	defer in.Close()
	tmp := path + tmpSuffix
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("cannot create compressed log: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return fmt.Errorf("cannot compress log %q: %w", path, err)
	}
	if err = os.Rename(tmp, path+".gz"); err != nil {
		return fmt.Errorf("cannot name compressed log: %w", err)
	}
	return os.Remove(path)
}
