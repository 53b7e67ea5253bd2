package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"binnacle.io/core/telemetry"
)

// writerDir tells a re-executed test binary to write there until killed.
const writerDir = "STORE_TEST_WRITER_DIR"

// writeUntilKilled writes with fsync on and prints each acknowledged name.
func writeUntilKilled(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir}, testKinds(), telemetry.Discard())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	names := make(chan string)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				if _, err := s.Create(ctx, configMaps, configMap("ns", name, name)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				names <- name
			}
		}()
	}
	for name := range names {
		fmt.Println(name)
	}
	return 0
}

func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seen := map[string]bool{}
	for round := range 3 {
		sub := filepath.Join(dir, fmt.Sprint(round))
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+sub)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		clear(seen)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			seen[lines.Text()] = true
			if len(seen) == 100*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if len(seen) < 100 {
			t.Fatalf("the writer acknowledged %d writes only", len(seen))
		}
		s := open(t, Config{Dir: sub})
		snap := must(s.Snapshot(t.Context(), configMaps, Latest()))(t)
		for name := range seen {
			if e, ok := snap.Get(key("ns", name)); !ok || e.Object.(interface{ GetName() string }).GetName() != name {
				t.Errorf("round %d: acknowledged %s is lost", round, name)
			}
		}
		shut(t, s)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		s := open(t, cfg)
		want := map[string]int64{}
		for i := range 300 {
			name := fmt.Sprintf("c%d", i)
			want[name] = must(s.Create(ctx, configMaps, configMap("ns", name, name)))(t).Revision
		}
		for i := range 100 {
			name := fmt.Sprintf("c%d", i)
			if i%2 == 0 {
				must(s.Delete(ctx, configMaps, key("ns", name), Preconditions{}, nil))(t)
				delete(want, name)
			} else {
				want[name] = must(s.Update(ctx, configMaps, key("ns", name), Preconditions{}, setData("new")))(t).Revision
			}
		}
		revision := s.Revision()
		shut(t, s)

		s = open(t, cfg)
		if s.Revision() < revision {
			t.Errorf("revision %d after %d", s.Revision(), revision)
		}
		snap := must(s.Snapshot(ctx, configMaps, Latest()))(t)
		for e := range snap.All("") {
			if want[e.Key.Name] != e.Revision {
				t.Errorf("%s at %d, want %d", e.Key, e.Revision, want[e.Key.Name])
			}
			delete(want, e.Key.Name)
		}
		if len(want) > 0 {
			t.Errorf("lost %v", want)
		}
	})
}

func TestDirectoryRefusals(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	file := filepath.Join(tmp, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(tmp, "taken")
	open(t, Config{Dir: taken, NoFsync: true})
	broken := filepath.Join(tmp, "broken")
	shut(t, open(t, Config{Dir: broken, NoFsync: true}))
	db := filepath.Join(broken, "etcd", "member", "snap", "db")
	if err := os.WriteFile(db, []byte(strings.Repeat("garbage", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"nothing configured", Config{}, []string{"neither a data directory nor etcd endpoints"}},
		{"both configured", Config{Dir: tmp, Endpoints: []string{"http://127.0.0.1:1"}}, []string{"choose one"}},
		{"a file", Config{Dir: file}, []string{file, "not a directory"}},
		{"below a file", Config{Dir: filepath.Join(file, "x")}, []string{file, "not a directory"}},
		{"in use", Config{Dir: taken}, []string{taken, fmt.Sprintf("process %d is running on it", os.Getpid())}},
		{"not etcd's", Config{Dir: broken}, []string{broken, "invalid database"}},
		{"nobody there", Config{Endpoints: []string{"http://127.0.0.1:1"}}, []string{"cannot reach etcd at http://127.0.0.1:1"}},
		{"no certificate", Config{Endpoints: []string{"https://127.0.0.1:1"}, CAFile: file}, []string{"https://127.0.0.1:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			s, err := Open(ctx, c.cfg, testKinds(), telemetry.Discard())
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not one line: %q", err)
			}
		})
	}
}
