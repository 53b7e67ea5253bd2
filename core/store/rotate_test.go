package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"

	"binnacle.io/core/telemetry"
)

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func metricHas(families []*dto.MetricFamily, name, label, value string) bool {
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					return true
				}
			}
		}
	}
	return false
}

func TestRotateKeys(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, cfg Config) {
		ctx := t.Context()
		file := filepath.Join(t.TempDir(), "encryption.yaml")
		cfg.Encryption = Encryption{File: file, Resources: []string{"configmaps"}}
		s := open(t, cfg)
		const n = 50
		for i := range n {
			must(s.Create(ctx, configMaps, configMap("ns", fmt.Sprintf("c%d", i), "1")))(t)
		}
		before := prefixOf([]byte(rawValue(t, s, "c0")))

		// Writers go on meanwhile.
		writing, stop := context.WithCancel(ctx)
		written := make(chan int, 1)
		go func() {
			n := 0
			for ; writing.Err() == nil; n++ {
				if _, err := s.Update(ctx, configMaps, key("ns", "c0"), Preconditions{}, setData(fmt.Sprint(n))); err != nil {
					t.Errorf("update while rotating: %v", err)
					break
				}
			}
			written <- n
		}()
		out := must(s.RotateKeys(ctx))(t)
		stop()
		last := <-written
		if len(out.Keys) != 1 || out.Rewritten < n-1 {
			t.Errorf("rotation says %+v", out)
		}
		want := "k8s:enc:aesgcm:v1:" + out.Keys[0] + ":"
		for i := range n {
			if v := rawValue(t, s, fmt.Sprintf("c%d", i)); !strings.HasPrefix(v, want) {
				t.Errorf("c%d is sealed with %s, want %s (before: %s)", i, prefixOf([]byte(v)), want, before)
			}
		}
		if b := must(os.ReadFile(file))(t); strings.Contains(string(b), strings.Split(before, ":")[4]) {
			t.Error("the old key is still in the file")
		}
		shut(t, s)
		s = open(t, cfg)
		readable(t, s, "c1", "1")
		readable(t, s, "c0", fmt.Sprint(last-1))
	})
}

func TestRotateRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, Config{Dir: t.TempDir(), NoFsync: true})
	if _, err := s.RotateKeys(ctx); !errors.Is(err, ErrNothingEncrypted) {
		t.Errorf("no file: %v", err)
	}
	shut(t, s)

	file := filepath.Join(t.TempDir(), "encryption.yaml")
	writeKeys(t, file, encryptionOf("configmaps", identity, aesgcm(secretKey("a", 32))))
	cfg := Config{Dir: t.TempDir(), NoFsync: true, Encryption: Encryption{File: file}}
	s = open(t, cfg)
	if _, err := s.RotateKeys(ctx); !errors.Is(err, ErrNothingEncrypted) {
		t.Errorf("identity first: %v", err)
	}
	shut(t, s)

	// A value of a kind that is not served keeps its key from being dropped.
	writeKeys(t, file, encryptionOf("*.*", aesgcm(secretKey("a", 32))))
	s = open(t, cfg)
	stored := must(newKeyring(encryptionOf("*.*", aesgcm(secretKey("a", 32)))))(t).seal(cronTabs, "/registry/example.com/crontabs/ns/c", []byte("{}"))
	must(s.etcd.Put(ctx, "/registry/example.com/crontabs/ns/c", string(stored)))(t)
	if _, err := s.RotateKeys(ctx); err == nil || !strings.Contains(err.Error(), "/registry/example.com/crontabs/ns/c\" is still encrypted with \"k8s:enc:aesgcm:v1:a:\"") {
		t.Errorf("rotated away from a key in use: %v", err)
	}
	if b := must(os.ReadFile(file))(t); !strings.Contains(string(b), "name: a\n") {
		t.Errorf("the key in use was dropped: %s", b)
	}
}

// rotatorDir tells a re-executed test binary to rotate there until killed.
const rotatorDir = "STORE_TEST_ROTATOR_DIR"

func rotatorConfig(dir string) Config {
	return Config{Dir: filepath.Join(dir, "data"), Encryption: Encryption{File: filepath.Join(dir, "keys.yaml"), Resources: []string{"configmaps"}}}
}

const rotated = 40 // objects

// rotateUntilKilled writes the number of each version before it rotates.
func rotateUntilKilled(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, rotatorConfig(dir), testKinds(), telemetry.Discard())
	if err == nil {
		fmt.Println("open")
		for i := 0; err == nil && i < rotated; i++ {
			name := fmt.Sprint(i)
			if _, err = s.Create(ctx, configMaps, configMap("ns", name, name)); err != nil && strings.Contains(err.Error(), "already exists") {
				err = nil
			}
		}
		for n := 0; err == nil; n++ {
			if _, err = s.RotateKeys(ctx); err == nil {
				fmt.Println("rotated")
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestKilledWhileRotatingKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rotations := 0
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), rotatorDir+"="+dir)
		cmd.Stderr = os.Stderr
		out := must(cmd.StdoutPipe())(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed somewhere in a rotation: each round a little later.
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if lines.Text() == "rotated" {
				rotations++
			}
			if n == 1 {
				delay := time.NewTimer(time.Duration(round*13) * time.Millisecond)
				<-delay.C
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		s := open(t, rotatorConfig(dir))
		for i := range rotated {
			e := must(s.Get(t.Context(), configMaps, key("ns", fmt.Sprint(i)), Latest()))(t)
			if got := e.Object.(*corev1.ConfigMap).Data["v"]; got != fmt.Sprint(i) {
				t.Fatalf("round %d: %d holds %q", round, i, got)
			}
		}
		shut(t, s)
	}
	if rotations < 6 {
		t.Errorf("only %d rotations ended", rotations)
	}
	// What the last kill left is cleared by the next rotation.
	s := open(t, rotatorConfig(dir))
	out := must(s.RotateKeys(t.Context()))(t)
	if b := must(os.ReadFile(filepath.Join(dir, "keys.yaml")))(t); strings.Count(string(b), "- name:") != 1 || !strings.Contains(string(b), out.Keys[0]) {
		t.Errorf("keys left: %s", b)
	}
}
