package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func files(pairs ...string) map[string]file {
	m := map[string]file{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = file{data: []byte(pairs[i+1]), mode: 0o644}
	}
	return m
}

// tree renders what a reader of the volume sees.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	var walk func(rel string)
	walk = func(rel string) {
		entries, err := os.ReadDir(filepath.Join(dir, rel))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "..") {
				continue
			}
			p := filepath.Join(rel, e.Name())
			info, err := os.Stat(filepath.Join(dir, p)) // through the links
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(p)
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, p))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, p+"="+string(b))
		}
	}
	walk("")
	return strings.Join(out, " ")
}

func TestWriteAtomically(t *testing.T) {
	dir := t.TempDir()
	f := func(fs map[string]file, want string, fresh bool) {
		t.Helper()
		before, _ := os.Readlink(filepath.Join(dir, dataLink))
		if err := writeAtomically(dir, fs, nil); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, dir); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		after, err := os.Readlink(filepath.Join(dir, dataLink))
		if err != nil || (after != before) != fresh {
			t.Errorf("version %q after %q, %v; want a new one: %v", after, before, err, fresh)
		}
		versions, err := filepath.Glob(filepath.Join(dir, "..2*"))
		if err != nil || len(versions) != 1 {
			t.Errorf("versions %v, %v", versions, err)
		}
	}
	f(files("a", "1", "d/e/f", "2"), "a=1 d/e/f=2", true)
	f(files("a", "1", "d/e/f", "2"), "a=1 d/e/f=2", false)
	f(files("a", "3", "b", "4"), "a=3 b=4", true)
	f(files(), "", true)
}

func TestInside(t *testing.T) {
	for _, bad := range []string{"", "/a", "..", "../a", "a/../../b", "..data", "..a/b"} {
		if got, err := inside(bad); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
	for in, want := range map[string]string{"a": "a", "a/../b": "b", "a//b": "a/b", "a..b": "a..b"} {
		if got, err := inside(in); err != nil || got != want {
			t.Errorf("%q became %q, %v", in, got, err)
		}
	}
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(path string, typ corev1.HostPathType, want string) {
		t.Helper()
		err := checkHostPath(&corev1.HostPathVolumeSource{Path: path, Type: &typ})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s as %s: %q, want %q", path, typ, got, want)
		}
	}
	none := filepath.Join(dir, "none")
	f(none, corev1.HostPathUnset, "")
	f(none, corev1.HostPathDirectory, "hostPath type check failed: "+none+" is not a directory")
	f(plain, corev1.HostPathDirectory, "hostPath type check failed: "+plain+" is not a directory")
	f(plain, corev1.HostPathFile, "")
	f(dir, corev1.HostPathFileOrCreate, "hostPath type check failed: "+dir+" is not a file")
	f(filepath.Join(dir, "new"), corev1.HostPathDirectoryOrCreate, "")
	f(filepath.Join(dir, "new"), corev1.HostPathDirectory, "")
	f("/dev/null", corev1.HostPathCharDev, "")
	f("/dev/null", corev1.HostPathBlockDev, "hostPath type check failed: /dev/null is not a block device")
}

// A link that a container left in its volume must not lead a subPath out.
func TestSubPathStaysInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	m := New(t.TempDir(), nil)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	t.Cleanup(func() {
		if err := m.Remove("u"); err != nil {
			t.Error(err)
		}
	})
	secret := t.TempDir()
	if err := os.WriteFile(filepath.Join(secret, "s"), []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	vol := t.TempDir()
	if err := os.Symlink(filepath.Join(secret, "s"), filepath.Join(vol, "abs")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../../../../../"+secret, filepath.Join(vol, "rel")); err != nil {
		t.Fatal(err)
	}
	c := &corev1.Container{Name: "c"}
	for i, sub := range []string{"abs", "rel", "../x", "/etc"} {
		got, err := m.subPath(pod, c, i, vol, "v", sub)
		if err != nil {
			continue
		}
		if b, err := os.ReadFile(got); err == nil && string(b) == "outside" {
			t.Errorf("%s leads out", sub)
		}
		if _, err := os.Stat(filepath.Join(got, "s")); err == nil {
			t.Errorf("%s leads out", sub)
		}
	}
	if err := os.WriteFile(filepath.Join(vol, "f"), []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := m.subPath(pod, c, 9, vol, "v", "f")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(got); err != nil || string(b) != "inside" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestWriteAtomicallyAfterInterruption finds a volume whose new version was
// switched to but not yet linked.
func TestWriteAtomicallyAfterInterruption(t *testing.T) {
	dir := t.TempDir()
	if err := writeAtomically(dir, files("a", "1", "b", "2"), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := writeAtomically(dir, files("a", "1", "b", "2"), nil); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); got != "a=1 b=2" {
		t.Errorf("got %q", got)
	}
}

// TestEmptyDir makes a volume every user may write to, also after an earlier
// call was cut short, and never touches a finished one.
func TestEmptyDir(t *testing.T) {
	m := New(t.TempDir(), nil)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	v := &corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	path := m.Path(pod, v).Path
	if err := os.MkdirAll(filepath.Join(filepath.Dir(path), "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	check := func(want os.FileMode) {
		t.Helper()
		if err := m.emptyDir(pod, v); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%v, %v; want %v", info, err, want)
		}
	}
	check(0o777)
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	check(0o750)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}
