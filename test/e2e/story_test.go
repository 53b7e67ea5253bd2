package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// serial runs scripts one after the other: they share a node and its ports.
type serial struct{ *testing.T }

func (s serial) Parallel()     {}
func (s serial) Verbose() bool { return testing.Verbose() }
func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

// TestStory plays the scripts in testdata, in the order of their names.
func TestStory(t *testing.T) {
	needsNode(t)
	tools := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range commands {
		if err := os.Symlink(self, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	testscript.RunT(serial{t}, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"until": until},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", shared.bin+":"+tools+":"+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KUBECONFIG", shared.kubeconfig)
			env.Setenv("ROOT", root())
			env.Setenv("BIN", shared.bin)
			env.Setenv("RECEIVED", shared.received)
			env.Setenv("NODE_IP", nodeIP())
			return nil
		},
	})
}
