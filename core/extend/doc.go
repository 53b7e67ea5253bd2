// Package extend is for kinds that arrive at run time.
//
// So far it owns only the answer that there are none: CustomResourceDefinitions
// can be listed, and the list is empty, because clients look there before they
// say that a kind is unknown. Creating one is refused with 405.
package extend
