package main

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestForwards(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := []response{{Result: json.RawMessage(`{"ips":[]}`)}, {Result: json.RawMessage(`{"code":7}`), Failed: true}, {}}
	got := make(chan request, len(answers))
	go func() {
		for _, a := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var r request
			if json.NewDecoder(c).Decode(&r) == nil {
				got <- r
				if err := json.NewEncoder(c).Encode(a); err != nil {
					t.Error(err)
				}
			}
			c.Close()
		}
	}()
	conf := `{"cniVersion":"1.1.0","socket":"` + socket + `"}`
	env := []string{"CNI_COMMAND=ADD", "CNI_ARGS=K8S_POD_NAME=a=b", "HOME=/x"}
	for i, want := range []struct {
		out string
		ok  bool
	}{{`{"ips":[]}`, true}, {`{"code":7}`, false}, {"", true}} {
		out, ok := run(strings.NewReader(conf), env)
		if string(out) != want.out || ok != want.ok {
			t.Errorf("%d: %s, %v", i, out, ok)
		}
		r := <-got
		if len(r.Env) != 2 || r.Env["CNI_ARGS"] != "K8S_POD_NAME=a=b" || string(r.Config) != conf {
			t.Errorf("%d: forwarded %+v", i, r)
		}
	}
}

func TestWithoutAgent(t *testing.T) {
	conf := `{"cniVersion":"1.1.0","socket":"/nowhere/cni.sock"}`
	out, ok := run(strings.NewReader(conf), []string{"CNI_COMMAND=ADD"})
	var f failure
	if err := json.Unmarshal(out, &f); err != nil || ok || f.Code != codeTryLater || !strings.Contains(f.Msg, "is binnacle running?") {
		t.Errorf("ADD: %s, %v", out, ok)
	}
	if out, ok := run(strings.NewReader(conf), []string{"CNI_COMMAND=VERSION"}); !ok || !strings.Contains(string(out), `"supportedVersions"`) {
		t.Errorf("VERSION: %s, %v", out, ok)
	}
	if out, ok := run(strings.NewReader("{"), nil); ok || !strings.Contains(string(out), `"code":6`) {
		t.Errorf("bad configuration: %s, %v", out, ok)
	}
}
