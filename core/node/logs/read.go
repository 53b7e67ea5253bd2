package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Options are upstream's PodLogOptions as far as they concern one file.
type Options struct {
	Follow     bool
	Timestamps bool
	Since      time.Time // zero is all
	Tail       int64     // lines; negative is all
	Limit      int64     // bytes; negative is all
	// Streams; both when neither is set.
	Stdout, Stderr bool
}

// OptionsOf translates the API's options.
func OptionsOf(o *corev1.PodLogOptions, now time.Time) Options {
	out := Options{Follow: o.Follow, Timestamps: o.Timestamps, Tail: -1, Limit: -1, Stdout: true, Stderr: true}
	if o.TailLines != nil {
		out.Tail = *o.TailLines
	}
	if o.LimitBytes != nil {
		out.Limit = *o.LimitBytes
	}
	if o.SinceSeconds != nil {
		out.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	if o.SinceTime != nil {
		out.Since = o.SinceTime.Time
	}
	if o.Stream != nil {
		out.Stdout = *o.Stream != corev1.LogStreamStderr
		out.Stderr = *o.Stream != corev1.LogStreamStdout
	}
	return out
}

// Line is one parsed line. Text keeps its newline unless the line goes on.
type Line struct {
	Time   time.Time
	Stamp  []byte
	Stream string
	Text   []byte
}

var errFormat = errors.New("not a line of a CRI log")

// Parse reads "2016-10-06T00:17:09.669794202Z stdout F text\n". The result
// shares memory with raw.
func Parse(raw []byte) (Line, error) {
	var l Line
	stamp, rest, ok := bytes.Cut(raw, []byte{' '})
	if !ok {
		return l, errFormat
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return l, fmt.Errorf("%w: %w", errFormat, err)
	}
	stream, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok || string(stream) != "stdout" && string(stream) != "stderr" {
		return l, errFormat
	}
	tag, text, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return l, errFormat
	}
	if string(tag[:min(1, len(tag))]) == "P" {
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	return Line{t, stamp, string(stream), text}, nil
}

// pollEvery is how often a followed file is looked at for more.
const pollEvery = 100 * time.Millisecond

// Read writes the log at path to w. running is asked whether more may come;
// following ends when it says no and all is read.
func Read(ctx context.Context, path string, o Options, w io.Writer, running func() bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("failed to try resolving symlinks in path %q: %w", path, err)
	}
	defer func() { f.Close() }()
	if o.Tail >= 0 {
		if err := seekTail(f, o.Tail); err != nil {
			return fmt.Errorf("cannot find the end of log %q: %w", path, err)
		}
	}
	out := &limited{w: w, left: o.Limit}
	r := bufio.NewReaderSize(f, 64<<10)
	var partial []byte
	continued := map[string]bool{} // streams whose last line goes on
	for {
		chunk, err := r.ReadSlice('\n')
		if err == nil && partial == nil {
			if err := out.line(chunk, o, continued); err != nil {
				return end(err)
			}
			continue
		}
		partial = append(partial, chunk...)
		if err == nil {
			if err := out.line(partial, o, continued); err != nil {
				return end(err)
			}
			partial = nil
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read log %q: %w", path, err)
		}
		if !o.Follow {
			return nil
		}
		more := running()
		next, err := reopened(f, path)
		if err != nil {
			return err
		}
		if next != nil { // rotated: the rest of the old one was read above
			f.Close()
			f, partial = next, nil
			r.Reset(f)
			continue
		}
		if fl, ok := w.(interface{ Flush() }); ok {
			fl.Flush()
		}
		if !more {
			if size(f) > position(f) {
				continue
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollEvery):
		}
	}
}

func size(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

func position(f *os.File) int64 {
	n, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0
	}
	return n
}

// errLimit ends reading when enough bytes were written.
var errLimit = errors.New("limit reached")

func end(err error) error {
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// limited writes at most left bytes.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) line(raw []byte, o Options, continued map[string]bool) error {
	line, err := Parse(raw)
	if err != nil {
		return nil // a line half written when the machine stopped
	}
	if line.Stream == "stdout" && !o.Stdout || line.Stream == "stderr" && !o.Stderr || line.Time.Before(o.Since) {
		return nil
	}
	if o.Timestamps && !continued[line.Stream] {
		if err := l.write(append(bytes.Clone(line.Stamp), ' ')); err != nil {
			return err
		}
	}
	continued[line.Stream] = !bytes.HasSuffix(line.Text, []byte{'\n'})
	return l.write(line.Text)
}

func (l *limited) write(b []byte) error {
	if l.left >= 0 {
		if int64(len(b)) > l.left {
			b = b[:l.left]
		}
		l.left -= int64(len(b))
	}
	if _, err := l.w.Write(b); err != nil {
		return fmt.Errorf("cannot send log: %w", err)
	}
	if l.left == 0 {
		return errLimit
	}
	return nil
}

// reopened returns the file now at path when it is another than f.
func reopened(f *os.File, path string) (*os.File, error) {
	a, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot stat log: %w", err)
	}
	b, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && os.SameFile(a, b) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot stat log: %w", err)
	}
	if a.Size() > position(f) {
		return nil, nil // written to between our read and the rotation
	}
	next, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open rotated log: %w", err)
	}
	return next, nil
}

// seekTail moves f to the start of its last n lines.
func seekTail(f *os.File, n int64) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	const block = 32 << 10
	buf := make([]byte, block)
	var found int64
	for pos := end; pos > 0; {
		from := max(pos-block, 0)
		b := buf[:pos-from]
		if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
			return err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != '\n' || from+int64(i) == end-1 {
				continue
			}
			if found++; found == n {
				_, err := f.Seek(from+int64(i)+1, io.SeekStart)
				return err
			}
		}
		pos = from
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
