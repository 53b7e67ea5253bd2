package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"env":{"CNI_COMMAND":"ADD","CNI_CONTAINERID":"a","CNI_NETNS":"/n","CNI_IFNAME":"eth0","CNI_ARGS":"K8S_POD_NAME=x"},"config":{"cniVersion":"1.1.0","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"tcp","hostIP":"::1"}]}}}`,
		`{"env":{"CNI_COMMAND":"GC"},"config":{"cniVersion":"1.1.0","cni.dev/valid-attachments":[{"containerID":"x"}]}}`,
		`{"config":[]}`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeRequest(bytes.NewReader(body), 1<<16)
		if err != nil {
			return
		}
		verb, c, err := parseCall(r)
		if err != nil {
			if !errors.As(err, new(*types.Error)) {
				t.Fatalf("%T is no CNI error", err)
			}
			return
		}
		if verb == "ADD" && (c.ContainerID == "" || c.IfName == "" || c.namespace == "" || len(c.IfName) > 15) {
			t.Fatalf("accepted %+v", c)
		}
		if verb == "ADD" {
			if _, err := json.Marshal(Lease{Attachment: c.Attachment, HostPorts: c.conf.RuntimeConfig.PortMappings}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRequestRefuses(t *testing.T) {
	for want, config := range map[string]string{
		"is not an IPv4 address": `{"cniVersion":"1.1.0","runtimeConfig":{"portMappings":[{"hostPort":1,"hostIP":"::1"}]}}`,
		"incompatible":           `{"cniVersion":"0.2.0"}`,
		"cannot read":            `[]`,
	} {
		_, _, err := parseCall(Request{Env: map[string]string{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0"}, Config: json.RawMessage(config)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
}
