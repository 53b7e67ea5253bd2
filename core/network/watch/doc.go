// Package watch keeps a consumer in step with a resource: list, follow the
// changes, list anew when the cursor fell behind.
//
// It owns the retry and its back-off. It promises that the consumer gets a
// whole state first and after every gap, and changes in order in between, all
// on one goroutine. It refuses to keep objects: consumers keep what they need.
package watch
