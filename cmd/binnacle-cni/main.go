// Command binnacle-cni is the CNI plugin that container runtimes execute. It
// forwards its environment and standard input to the socket named in the
// configuration, where the node agent does the work, and prints the answer.
// It starts in a millisecond because it imports next to nothing.
package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// CNI error codes of the specification.
const (
	codeDecoding = 6
	codeTryLater = 11
)

type request struct {
	Env    map[string]string `json:"env"`
	Config json.RawMessage   `json:"config"`
}

type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Failed bool            `json:"failed,omitempty"`
}

type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

func main() {
	out, ok := run(os.Stdin, os.Environ())
	if len(out) > 0 {
		os.Stdout.Write(append(out, '\n'))
	}
	if !ok {
		os.Exit(1)
	}
}

// run returns what to print and whether the call succeeded.
func run(stdin io.Reader, environ []string) ([]byte, bool) {
	req := request{Env: map[string]string{}}
	for _, e := range environ {
		if k, v, _ := strings.Cut(e, "="); strings.HasPrefix(k, "CNI_") {
			req.Env[k] = v
		}
	}
	var conf struct {
		CNIVersion string `json:"cniVersion"`
		Socket     string `json:"socket"`
	}
	body, err := io.ReadAll(stdin)
	if err == nil {
		err = json.Unmarshal(body, &conf)
	}
	if err != nil {
		return fail("1.1.0", codeDecoding, "cannot read network configuration from standard input", err)
	}
	if req.Env["CNI_COMMAND"] == "VERSION" {
		// Must work without the agent; runtimes ask before it is up.
		out, err := json.Marshal(map[string]any{"cniVersion": conf.CNIVersion, "supportedVersions": []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}})
		return out, err == nil
	}
	req.Config = body
	conn, err := net.Dial("unix", conf.Socket)
	if err != nil {
		return fail(conf.CNIVersion, codeTryLater, "cannot reach the node agent; is binnacle running?", err)
	}
	defer conn.Close()
	var resp response
	if err = conn.SetDeadline(time.Now().Add(time.Minute)); err == nil {
		if err = json.NewEncoder(conn).Encode(req); err == nil {
			err = json.NewDecoder(conn).Decode(&resp)
		}
	}
	if err != nil {
		return fail(conf.CNIVersion, codeTryLater, "cannot get an answer from the node agent", err)
	}
	return resp.Result, !resp.Failed
}

func fail(version string, code int, msg string, err error) ([]byte, bool) {
	out, encodeErr := json.Marshal(failure{version, code, msg, err.Error()})
	if encodeErr != nil {
		return []byte(`{"code":999,"msg":"cannot encode error"}`), false
	}
	return out, false
}
