// Package extend is for kinds that arrive at run time and for API groups that
// another server answers.
//
// So far it owns two answers. CustomResourceDefinitions can be listed, and the
// list is empty, because clients look there before they say that a kind is
// unknown; creating one is refused with 405. APIServices are stored objects of
// the catalogue; LocalServices keeps one for each group version that this
// server serves, as upstream's aggregator does, and follows the catalogue.
//
// It refuses to forward requests: an APIService with a service is kept, since
// tools install it before they look whether it works, and its condition
// Available is False with the reason AggregationNotSupported.
package extend
