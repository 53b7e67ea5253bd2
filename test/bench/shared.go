package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// sides are the clusters, by the names the shared tool has for them.
var sides = [2]string{"a", "b"}

const upstream, binnacle = 0, 1

// figure is one measure of both sides, by run.
type figure struct {
	Unit   string       `json:"unit"`
	Values [2][]float64 `json:"values"` // upstream's, Binnacle's
}

type bench struct {
	config
	scratch string
	program string
	figures map[string]*figure
}

func (b *bench) add(name, unit string, side int, value float64) {
	f := b.figures[name]
	if f == nil {
		f = &figure{Unit: unit}
		b.figures[name] = f
	}
	f.Values[side] = append(f.Values[side], value)
}

// prepare builds the shared tool.
func (b *bench) prepare(ctx context.Context) error {
	scratch, err := os.MkdirTemp(b.dir, "binnacle-bench-")
	if err != nil {
		return fmt.Errorf("cannot make a folder to work in: %w", err)
	}
	b.scratch, b.program = scratch, filepath.Join(scratch, "clusterbench")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.program, ".")
	build.Dir, build.Env = b.tool, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.clean()
		return fmt.Errorf("cannot build %s: %w\n%s", b.tool, err, out)
	}
	return nil
}

func (b *bench) clean() {
	// What is left of a temporary folder harms nobody.
	_ = os.RemoveAll(b.scratch)
}

// shared runs the shared tool on both clusters and takes over its figures.
func (b *bench) shared(ctx context.Context, part string, args []string) error {
	out := filepath.Join(b.scratch, part+".json")
	args = append(args,
		"--a", b.upstream, "--a-proc", b.upstreamProc, "--b", b.binnacle, "--b-proc", b.binnacleProc,
		"--runs", strconv.Itoa(b.runs), "--json", out)
	cmd := exec.CommandContext(ctx, b.program, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	// Let it clean up when interrupted.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	failed := cmd.Run()
	data, err := os.ReadFile(out)
	if err != nil {
		return errors.Join(failed, err)
	}
	var file struct {
		Runs []struct {
			Cluster string
			Metrics []struct {
				Name, Unit string
				Value      float64
			}
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("cannot read figures of %s: %w", args[0], err)
	}
	for _, run := range file.Runs {
		side := upstream
		if run.Cluster == sides[binnacle] {
			side = binnacle
		}
		for _, m := range run.Metrics {
			b.add(part+"/"+m.Name, m.Unit, side, m.Value)
		}
	}
	return failed
}

func (b *bench) writeJSON(rows []row) error {
	if b.json == "" {
		return nil
	}
	data, err := json.MarshalIndent(map[string]any{"rows": rows, "figures": b.figures}, "", "  ")
	if err == nil {
		err = os.WriteFile(b.json, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot write figures: %w", err)
	}
	return nil
}
