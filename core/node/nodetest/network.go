package nodetest

import (
	"os"
	"path/filepath"
	"testing"
)

// PodIP is the address every pod gets that is not on the host's network.
const PodIP = "10.99.0.2"

// plugin is a CNI plugin that says it gave an address and does nothing: tests
// here look at what the agent makes of it, not at packets.
const plugin = `#!/bin/sh
case "$CNI_COMMAND" in
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"address":"` + PodIP + `/24","interface":0}]}' ;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
esac
`

const conflist = `{"cniVersion":"1.0.0","name":"nodetest","plugins":[{"type":"nodetest-cni"}]}`

// network returns a directory with the bundled binaries and a pretended CNI
// plugin, whose configuration it writes below data.
func network(t testing.TB, bin, data string) string {
	t.Helper()
	dir := t.TempDir()
	for _, b := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		if err := os.Symlink(filepath.Join(bin, b), filepath.Join(dir, b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "nodetest-cni"), []byte(plugin), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(data, "cni", "net.d")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "10-nodetest.conflist"), []byte(conflist), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
