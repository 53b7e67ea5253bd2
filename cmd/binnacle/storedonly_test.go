package main

import (
	"slices"
	"testing"

	"binnacle.io/core/kind"
)

// Every kind in the table exists, and a writer of it is told.
func TestStoredOnlyIsSaid(t *testing.T) {
	kinds := kind.Builtin()
	warnStoredOnly(kinds)
	for gr, consequence := range storedOnly() {
		k, ok := kinds.ByGroupResource(gr)
		if !ok {
			t.Errorf("no kind %s", gr)
			continue
		}
		want := k.Hub.Kind + " is stored only, nothing acts on it yet: " + consequence
		if got := k.Warnings(k.New()); !slices.Contains(got, want) {
			t.Errorf("%s warns %q, want %q", gr, got, want)
		}
	}
}
