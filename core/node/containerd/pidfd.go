package containerd

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watchProcess follows a process that is not our child through a pidfd, which
// becomes readable when the process ends.
func watchProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	proc := &process{pid: pid, done: make(chan struct{})}
	var owner sync.WaitGroup
	owner.Add(1)
	go func() {
		defer owner.Done()
		err := raw.Read(func(fd uintptr) bool {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(p, 0)
			return err == nil && n > 0
		})
		if err == nil { // else released while it ran on
			close(proc.done)
		}
	}()
	proc.release = func() {
		f.Close()
		owner.Wait()
	}
	return proc, nil
}
