package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// checkHostPath makes sure that what a hostPath volume points to is there and
// of the type asked for; the …OrCreate types make it.
func checkHostPath(h *corev1.HostPathVolumeSource) error {
	t := corev1.HostPathUnset
	if h.Type != nil {
		t = *h.Type
	}
	if t == corev1.HostPathUnset {
		return nil // the runtime makes a directory where nothing is
	}
	info, err := os.Stat(h.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	is := func(ok bool, what string) error {
		if missing || !ok {
			return fmt.Errorf("hostPath type check failed: %s is not %s", h.Path, what)
		}
		return nil
	}
	var mode fs.FileMode
	if info != nil {
		mode = info.Mode()
	}
	switch t {
	case corev1.HostPathDirectoryOrCreate:
		if missing {
			return os.MkdirAll(h.Path, 0o755)
		}
		return is(mode.IsDir(), "a directory")
	case corev1.HostPathDirectory:
		return is(mode.IsDir(), "a directory")
	case corev1.HostPathFileOrCreate:
		if missing {
			f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDONLY, 0o644)
			if err != nil {
				return fmt.Errorf("cannot create file: %w", err)
			}
			return f.Close()
		}
		return is(mode.IsRegular(), "a file")
	case corev1.HostPathFile:
		return is(mode.IsRegular(), "a file")
	case corev1.HostPathSocket:
		return is(mode&fs.ModeSocket != 0, "a socket")
	case corev1.HostPathCharDev:
		return is(mode&fs.ModeCharDevice != 0, "a character device")
	case corev1.HostPathBlockDev:
		return is(mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0, "a block device")
	}
	return fmt.Errorf("%s is an invalid volume type", t)
}
