package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/console"
)

// escapes are what a terminal program sends besides text.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])`)

// screen WITHIN [REGEXP KEYS]… -- COMMAND… runs a program in a terminal of its
// own, 160 by 50. Each time its output since the last keys matches, it types the keys
// (Go escapes: \x03 is Ctrl-C); at the end the program has to end.
func screen(args []string) error {
	within, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	var steps []string
	command := args[1:]
	for len(command) > 0 && command[0] != "--" {
		steps, command = append(steps, command[0]), command[1:]
	}
	if len(steps)%2 != 0 || len(command) < 2 {
		return fmt.Errorf("usage: screen WITHIN [REGEXP KEYS]… -- COMMAND…")
	}
	ours, name, err := console.NewPty()
	if err != nil {
		return err
	}
	defer ours.Close()
	if err := ours.Resize(console.WinSize{Width: 160, Height: 50}); err != nil {
		return err
	}
	tty, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command(command[1], command[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	tty.Close()
	if err != nil {
		return err
	}
	var seen output
	go seen.follow(ours)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	limit := time.After(within)
	for ; len(steps) > 0; steps = steps[2:] {
		re, err := regexp.Compile(steps[0])
		if err != nil {
			return err
		}
		keys, err := strconv.Unquote(`"` + steps[1] + `"`)
		if err != nil {
			return err
		}
		for !re.Match(seen.text()) {
			select {
			case err := <-exited:
				return fmt.Errorf("%s ended before it showed %q: %v\n%s", command[1], steps[0], err, seen.text())
			case <-limit:
				cmd.Process.Kill()
				<-exited
				return fmt.Errorf("%s did not show %q within %v\n%s", command[1], steps[0], within, seen.text())
			case <-seen.more():
			case <-time.After(100 * time.Millisecond):
			}
		}
		fmt.Printf("%s\n", re.Find(seen.text()))
		seen.clear()
		if _, err := ours.Write([]byte(keys)); err != nil {
			return err
		}
	}
	select {
	case err := <-exited:
		return err
	case <-limit:
		cmd.Process.Kill()
		<-exited
		return fmt.Errorf("%s did not end\n%s", strings.Join(command[1:], " "), seen.text())
	}
}

// output is what a program has written since clear.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
	ch  chan struct{}
}

func (o *output) follow(r interface{ Read([]byte) (int, error) }) {
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		o.mu.Lock()
		o.buf.Write(b[:n])
		if o.ch != nil {
			close(o.ch)
			o.ch = nil
		}
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// more is closed when there is more to see.
func (o *output) more() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ch == nil {
		o.ch = make(chan struct{})
	}
	return o.ch
}

func (o *output) text() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return escapes.ReplaceAll(o.buf.Bytes(), nil)
}

func (o *output) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Reset()
}
