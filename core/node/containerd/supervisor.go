package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"binnacle.io/core/telemetry"
)

// Supervisor runs containerd. Start it with Run; Ready tells when it answers.
type Supervisor struct {
	cfg      Config
	tel      *telemetry.Component
	restarts prometheus.Counter

	once  sync.Once
	ready chan struct{} // closed when containerd first answered
}

// New returns a supervisor that has not started anything yet.
func New(cfg Config, tel *telemetry.Component) *Supervisor {
	s := &Supervisor{cfg: cfg, tel: tel, ready: make(chan struct{}), restarts: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "binnacle_node_runtime_restarts_total", Help: "Times the bundled containerd ended and was started again."})}
	tel.Registry.MustRegister(s.restarts)
	return s
}

// Ready is closed once containerd's CRI answers.
func (s *Supervisor) Ready() <-chan struct{} { return s.ready }

// The back-off between starts of a containerd that keeps dying, and the time
// after which a running one counts as healthy.
const (
	firstBackOff = 200 * time.Millisecond
	maxBackOff   = 10 * time.Second
	healthyAfter = 30 * time.Second
	startTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second
)

// Run keeps containerd running until ctx ends, then stops it; pods go on.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		return err
	}
	delay := firstBackOff
	for {
		began := time.Now()
		err := s.runOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return err
		}
		s.restarts.Inc()
		if time.Since(began) > healthyAfter {
			delay = firstBackOff
		}
		s.tel.Log.Error("containerd ended, starting it again", "error", err, "delay", delay, "log", s.cfg.logFile())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(2*delay, maxBackOff)
	}
}

// prepare writes the configuration.
func (s *Supervisor) prepare() error {
	for _, bin := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		if _, err := os.Stat(filepath.Join(s.cfg.BinDir, bin)); err != nil {
			return fmt.Errorf("cannot find the bundled container runtime: %w", err)
		}
	}
	for _, dir := range []string{s.cfg.root(), s.cfg.state(), s.cfg.CNIConfDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("cannot create containerd's directory: %w", err)
		}
	}
	return nil
}

// runOnce adopts or starts containerd and waits for its end or for ctx's, in
// which case it stops it.
func (s *Supervisor) runOnce(ctx context.Context) error {
	proc, err := s.adopt(ctx)
	if err != nil {
		return err
	}
	if proc == nil {
		if proc, err = s.start(); err != nil {
			return err
		}
	}
	defer proc.release()
	if err := s.await(ctx, proc); err != nil {
		return errors.Join(err, s.stop(proc))
	}
	s.once.Do(func() { close(s.ready) })
	select {
	case <-proc.done:
		return fmt.Errorf("containerd (pid %d) ended", proc.pid)
	case <-ctx.Done():
		return s.stop(proc)
	}
}

// process is a containerd that is this agent's child or a former agent's.
type process struct {
	pid     int
	done    chan struct{} // closed when it has ended
	release func()
}

// adopt finds a containerd left by a former agent. One that runs with another
// configuration or binary than ours is stopped; its pods go on.
func (s *Supervisor) adopt(ctx context.Context) (*process, error) {
	pid, err := s.find()
	if err != nil || pid == 0 {
		return nil, err
	}
	proc, err := watchProcess(pid)
	if err != nil {
		return nil, nil // it ended meanwhile
	}
	running, _ := os.ReadFile(s.cfg.file())
	same, err := sameBinary(pid, s.cfg.binary())
	if err == nil && same && string(running) == s.cfg.render() && s.answers(ctx, 2*time.Second) {
		s.tel.Log.Info("adopted running containerd", "pid", pid)
		s.notePid(pid)
		return proc, nil
	}
	s.tel.Log.Info("replacing running containerd: its binary or configuration changed, or it does not answer", "pid", pid)
	defer proc.release()
	return nil, s.stop(proc)
}

// find returns the process ID of a containerd started with our configuration,
// 0 when none runs. An agent killed right after it started one has written no
// pid file, so the processes are searched where the file does not lead to one.
func (s *Supervisor) find() (int, error) {
	b, err := os.ReadFile(s.cfg.pidFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("cannot read containerd's pid file: %w", err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && s.isOurs(pid) {
		return pid, nil
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("cannot list processes: %w", err)
	}
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && s.isOurs(pid) {
			return pid, nil
		}
	}
	return 0, nil
}

// isOurs reports whether pid is a containerd started with our configuration.
func (s *Supervisor) isOurs(pid int) bool {
	cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(cmd), "--config\x00"+s.cfg.file()+"\x00")
}

func sameBinary(pid int, path string) (bool, error) {
	a, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}

// start runs containerd in a session of its own with its output in a file, so
// that nothing of the agent's end reaches it.
func (s *Supervisor) start() (*process, error) {
	if err := os.WriteFile(s.cfg.file(), []byte(s.cfg.render()), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write containerd's configuration: %w", err)
	}
	if err := rotateLog(s.cfg.logFile()); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(s.cfg.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open containerd's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.cfg.binary(), "--config", s.cfg.file(), "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PATH="+s.cfg.BinDir+":"+os.Getenv("PATH"), "GOGC=50")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start containerd: %w", err)
	}
	s.notePid(cmd.Process.Pid)
	proc := &process{pid: cmd.Process.Pid, done: make(chan struct{}), release: func() {}}
	go func() { // ends with the child; the child is reaped here
		cmd.Wait()
		close(proc.done)
	}()
	return proc, nil
}

func (s *Supervisor) notePid(pid int) {
	if err := os.WriteFile(s.cfg.pidFile(), []byte(strconv.Itoa(pid)), 0o600); err != nil {
		s.tel.Log.Warn("cannot write containerd's pid file", "error", err)
	}
}

// maxLog is the size in bytes above which containerd's log is put aside.
const maxLog = 10 << 20

func rotateLog(path string) error {
	st, err := os.Stat(path)
	if err != nil || st.Size() < maxLog {
		return nil
	}
	if err := os.Rename(path, path+".1"); err != nil {
		return fmt.Errorf("cannot rotate containerd's log: %w", err)
	}
	return nil
}

// await waits until the CRI answers.
func (s *Supervisor) await(ctx context.Context, proc *process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !s.answers(ctx, time.Second) {
		select {
		case <-proc.done:
			return fmt.Errorf("containerd ended before it answered; its log is %s", s.cfg.logFile())
		case <-ctx.Done():
			return fmt.Errorf("containerd did not answer in time; its log is %s: %w", s.cfg.logFile(), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// answers asks the CRI for its version once.
func (s *Supervisor) answers(ctx context.Context, timeout time.Duration) bool {
	if _, err := os.Stat(s.cfg.Socket()); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+s.cfg.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false
	}
	defer conn.Close()
	_, err = cri.NewRuntimeServiceClient(conn).Version(ctx, &cri.VersionRequest{})
	return err == nil
}

// stop ends containerd: politely, then not.
func (s *Supervisor) stop(proc *process) error {
	if err := syscall.Kill(proc.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot stop containerd (pid %d): %w", proc.pid, err)
	}
	select {
	case <-proc.done:
	case <-time.After(stopTimeout):
		s.tel.Log.Warn("containerd did not stop, killing it", "pid", proc.pid)
		if err := syscall.Kill(proc.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot kill containerd (pid %d): %w", proc.pid, err)
		}
		<-proc.done
	}
	if err := os.Remove(s.cfg.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove containerd's pid file: %w", err)
	}
	return nil
}

// Stop ends a containerd left running under cfg, if there is one.
func Stop(ctx context.Context, cfg Config, tel *telemetry.Component) error {
	s := &Supervisor{cfg: cfg, tel: tel}
	pid, err := s.find()
	if err != nil || pid == 0 {
		return err
	}
	proc, err := watchProcess(pid)
	if err != nil {
		return nil // it ended meanwhile
	}
	defer proc.release()
	return s.stop(proc)
}
