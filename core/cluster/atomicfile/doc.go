// Package atomicfile writes files that appear whole or not at all.
//
// It promises that after Write returns the new content survives a crash, and
// that a crash before leaves the old content. It refuses to make directories.
package atomicfile
