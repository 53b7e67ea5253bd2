// Package nodetest starts node agents on a real containerd for tests.
//
// It owns what such tests need: the binaries, a small image with a test
// program, directories, and the removal of everything on the machine that the
// agent made. It refuses to pretend: without root or the binaries the test is
// skipped.
package nodetest
