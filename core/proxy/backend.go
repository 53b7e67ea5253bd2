package proxy

import "context"

// Backend writes tables into the kernel. Calls do not overlap.
//
// The first call after New or after an error must be Replace. Apply may assume
// that the kernel has what the last successful call gave it.
type Backend interface {
	// Replace makes the kernel have exactly the table, without a moment in
	// which a Service that was reachable and still is, is not.
	Replace(ctx context.Context, t *Table) error
	// Apply brings the kernel from the state before the changes to t. Its
	// cost is proportional to the changes.
	Apply(ctx context.Context, t *Table, changes []Change) error
	// Audit compares the kernel with what it was given and names what
	// differs. It changes nothing.
	Audit(ctx context.Context) ([]string, error)
	// Remove takes everything out of the kernel.
	Remove(ctx context.Context) error
}
