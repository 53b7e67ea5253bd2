// Package linearizability checks that the API keeps its promises about order
// while the process that serves it is killed at random moments.
//
// A separate process serves the API over HTTPS from a data directory, with
// fsync. Clients create, read, list, update, patch and delete a few objects
// and watch them, and an administrator defragments, compacts, saves a snapshot
// or rotates the encryption keys; the process gets SIGKILL and starts again on
// the same directory. After each kill the history is checked:
//
//   - per object, the operations are linearizable (porcupine); an operation
//     without an answer may have happened at any later time or never;
//   - one version has one resourceVersion, unless keys were rotated, and
//     versions go up in real time;
//   - a list shows exactly the objects there were at its resourceVersion, as
//     told by the watch;
//   - a watch shows every acknowledged write of the revisions it covers, once
//     and in order.
//
// go test checks a few kills; -kills N many; -binnacle FILE kills that program
// instead of this test's own. A history that fails stays in a file, with
// porcupine's picture beside it.
package linearizability
