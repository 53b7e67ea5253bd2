package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The layout of a volume made from API objects: the files are in a directory
// named by time, "..data" is a symbolic link to it, and every top-level name is
// a link through "..data". Replacing that one link changes all files at once.
const (
	dataLink = "..data"
	newLink  = "..data_tmp"
)

// writeAtomically makes the volume at dir hold exactly files. It does nothing
// when it does already.
func writeAtomically(dir string, files map[string]file, group *int64) error {
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read volume: %w", err)
	}
	if old != "" && unchanged(filepath.Join(dir, old), files) {
		return linkTop(dir, files) // an earlier call may have been cut short before it
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return fmt.Errorf("cannot create volume version: %w", err)
	}
	if err := fill(fresh, files, group); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	tmp := filepath.Join(dir, newLink)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove left-over link: %w", err)
	}
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		return fmt.Errorf("cannot link volume version: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("cannot switch volume version: %w", err)
	}
	if err := linkTop(dir, files); err != nil {
		return err
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			return fmt.Errorf("cannot remove old volume version: %w", err)
		}
	}
	return nil
}

// unchanged reports whether dir holds exactly these files' content.
func unchanged(dir string, files map[string]file) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		f, ok := files[rel]
		if !ok {
			return errDiffers
		}
		have, err := os.ReadFile(p)
		if err != nil || !bytes.Equal(have, f.data) {
			return errDiffers
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

var errDiffers = errors.New("differs")

func fill(dir string, files map[string]file, group *int64) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("cannot set mode: %w", err)
	}
	for name, f := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return fmt.Errorf("cannot create directory in volume: %w", err)
		}
		if err := os.WriteFile(p, f.data, 0o600); err != nil {
			return fmt.Errorf("cannot write file in volume: %w", err)
		}
		if err := os.Chmod(p, fs.FileMode(f.mode).Perm()); err != nil {
			return fmt.Errorf("cannot set mode: %w", err)
		}
		if f.uid != nil {
			if err := os.Chown(p, int(*f.uid), -1); err != nil {
				return fmt.Errorf("cannot set owner: %w", err)
			}
		}
	}
	if group != nil {
		return own(dir, *group, true)
	}
	return nil
}

// linkTop makes the visible names follow the files.
func linkTop(dir string, files map[string]file) error {
	var tops []string
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read volume: %w", err)
	}
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Name()] = true
		if strings.HasPrefix(e.Name(), "..") || slices.Contains(tops, e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("cannot remove stale link: %w", err)
		}
	}
	for _, top := range tops {
		if have[top] {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, top), filepath.Join(dir, top)); err != nil {
			return fmt.Errorf("cannot link file: %w", err)
		}
	}
	return nil
}

// own gives a tree to a group, as fsGroup asks: group readable (and writable
// unless readOnly), directories passing the group on.
func own(root string, gid int64, readOnly bool) error {
	bits := fs.FileMode(0o660)
	if readOnly {
		bits = 0o440
	}
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(p, -1, int(gid)); err != nil {
			return fmt.Errorf("cannot set group: %w", err)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | bits
		if d.IsDir() {
			mode |= 0o110 | fs.ModeSetgid
		}
		if err := os.Chmod(p, mode); err != nil {
			return fmt.Errorf("cannot set mode: %w", err)
		}
		return nil
	})
}
