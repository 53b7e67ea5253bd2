// Package differential holds what upstream answers to a few thousand manifests
// and checks that Binnacle answers the same.
//
// A seed (testdata/seeds) is a hand-written valid object of a kind. A case
// changes a seed in few places and sends it: as a new object, as an update, to
// a subresource. The corpus (testdata/corpus, a file for each seed file) holds
// the cases with upstream's answers. Only the seeds are written by hand; the
// changes come from the seeds and from upstream's OpenAPI document.
//
// It promises that TestCorpus needs no upstream, that everything in the corpus
// was said by one, and that a case depends on nothing but its seed: what
// differs between two runs or two clusters is left out of an answer (see
// scrub). It refuses to hide a disagreement: those on purpose stand in
// testdata/deliberate.txt with a reason, those nobody has repaired yet in
// testdata/open.txt, and a line that has come true fails the test.
//
// To refresh the corpus:
//
//	./upstream PROGRAMS DIR 16443 &
//	go test . -run TestRecord -kubeconfig DIR/kubeconfig
//
// A full cluster will do as well, but its controllers change the objects that
// updates are tried on.
package differential
