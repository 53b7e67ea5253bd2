package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"binnacle.io/test/server"
)

// suite is where the shared conformance suite lies, seen from this folder.
const suite = "../../../shared/conformance"

// atOnce is how many tests run at a time: most of them wait most of the time.
const atOnce = "8"

func names(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func here(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(suite); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the shared conformance suite is not there: no %s", suite)
	}
}

// The quick tests pass against a control plane without a node.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("runs upstream's conformance tests")
	}
	here(t)
	s, err := server.Start(t.Context(), server.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the control plane said:\n%s", s.Output())
		}
	})
	out := t.TempDir()
	run := exec.CommandContext(t.Context(), filepath.Join(suite, "run"), "--kubeconfig", s.Kubeconfig,
		"--from", "passing-quick.txt", "--out", out, "--nodes", atOnce, "--timeout", "2m", "--deadline", "10m")
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) } // it ends what it started
	run.WaitDelay = time.Minute
	log, err := run.CombinedOutput()
	if status := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &status) || status.ExitCode() > 2) {
		t.Fatalf("cannot run the suite: %v\n%s", err, log)
	}
	got := results(t, filepath.Join(out, "results.tsv"))
	for _, name := range names(t, "passing-quick.txt") {
		if r := got[name]; r.state != "passed" {
			t.Errorf("%s no longer passes: %s", name, r)
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", log, failures(t, filepath.Join(out, "failed")))
	}
}

// result is how a test ended; its zero value is that of one that did not run.
type result struct{ state, message string }

func (r result) String() string {
	if r.state == "" {
		return "it did not run"
	}
	return r.state + ": " + r.message
}

// results reads lines of state, seconds, name and message.
func results(t *testing.T, file string) map[string]result {
	t.Helper()
	out := map[string]result{}
	for _, line := range names(t, file) {
		if f := strings.Split(line, "\t"); len(f) == 4 {
			out[f[2]] = result{f[0], f[3]}
		}
	}
	return out
}

// failures is the beginning of each failed test's log.
func failures(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const most = 4000 // bytes; the rest is the state of the cluster
		b.Write(text[:min(len(text), most)])
		b.WriteString("\n\n")
	}
	return b.String()
}

// The lists are in order, the quick one is a part of the other, and all their
// tests exist.
func TestLists(t *testing.T) {
	passing, quick := names(t, "passing.txt"), names(t, "passing-quick.txt")
	for file, list := range map[string][]string{"passing.txt": passing, "passing-quick.txt": quick} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("%s is not sorted, or names a test twice", file)
		}
	}
	for _, name := range quick {
		if _, ok := slices.BinarySearch(passing, name); !ok {
			t.Errorf("passing-quick.txt names %s, and passing.txt does not", name)
		}
	}
	here(t)
	var known []string
	for _, line := range names(t, filepath.Join(suite, "list.tsv")) {
		f := strings.Split(line, "\t")
		known = append(known, f[len(f)-1])
	}
	for _, name := range passing {
		if !slices.Contains(known, name) {
			t.Errorf("there is no test %s", name)
		}
	}
}

var removed = regexp.MustCompile(`^-(\[sig-.*)$`)

// What has once been in passing.txt is still there.
func TestListGrows(t *testing.T) {
	history := exec.CommandContext(t.Context(), "git", "log", "--format=", "-p", "--", "passing.txt")
	diffs, err := history.Output()
	if err != nil {
		t.Skipf("no history: %v", err)
	}
	passing := names(t, "passing.txt")
	for lines := bufio.NewScanner(bytes.NewReader(diffs)); lines.Scan(); {
		if m := removed.FindStringSubmatch(lines.Text()); m != nil && !slices.Contains(passing, m[1]) {
			t.Errorf("passing.txt no longer names %s", m[1])
		}
	}
}
