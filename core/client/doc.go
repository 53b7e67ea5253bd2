// Package client is the vocabulary through which every part of Binnacle reads
// and writes the cluster's state.
//
// It owns the Client interface, its typed generic front (Get, List, Watch,
// Create, … for a Go type), and nothing else. There are two implementations:
// core/api offers one in process, which enters the request pipeline below
// decoding under its own identity; a remote one speaks HTTPS. Both pass the
// same authorization, admission, validation and audit, and both promise:
//
//   - Objects that come out are shared and immutable. Copy (DeepCopy) before
//     changing anything, slices and maps inside included.
//   - Objects that go in belong to the caller; they are not kept.
//   - Every error that an API server would answer with a Status is an
//     apierrors.APIStatus: use apierrors.IsNotFound, IsConflict, ….
//   - Reads are as fresh as the ReadOptions ask for: by default linearizable.
//     With FromCache they cost no round trip and may lag by milliseconds.
//
// It refuses to cache, to retry and to rate-limit: controllers do, measured.
package client
