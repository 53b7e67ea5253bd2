package node

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"binnacle.io/core/node/logs"
	"binnacle.io/core/node/runtime"
)

// rotateEvery and rotation are upstream's defaults.
const rotateEvery = 10 * time.Second

func rotation() logs.Rotation { return logs.Rotation{MaxSize: 10 << 20, MaxFiles: 5} }

// rotateLogs keeps the logs of running containers bounded.
func (a *Agent) rotateLogs(ctx context.Context) error {
	tick := time.NewTicker(rotateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, w := range a.allWorkers() {
			pod, v := w.snapshot()
			used := map[string]int64{}
			for _, c := range v.containers {
				if c.LogPath == "" {
					continue
				}
				used[c.Name] += dirSize(filepath.Dir(c.LogPath), used[c.Name])
				if c.State != runtime.Running {
					continue
				}
				err := rotation().Rotate(c.LogPath, time.Now(), func() error { return a.runtime.ReopenLog(ctx, c.ID) })
				if err != nil && ctx.Err() == nil {
					a.tel.Log.Warn("cannot rotate container log", "log", c.LogPath, "error", err)
				}
			}
			for name, n := range used {
				a.metrics.logBytes.WithLabelValues(string(pod.UID), pod.Namespace, pod.Name, name).Set(float64(n))
			}
		}
	}
}

// dirSize sums the files of a container's log directory, once per container.
func dirSize(dir string, counted int64) int64 {
	if counted > 0 {
		return 0
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var n int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}
