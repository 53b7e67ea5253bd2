// Package logs reads and rotates container logs in the format of the CRI.
//
// It owns the line format (time, stream, tag, text), reading with upstream's
// options (follow, tail, since, timestamps, bytes), and rotation. It promises
// that a reader that follows goes on across rotation and ends when the
// container has. It refuses to know where logs are.
package logs
