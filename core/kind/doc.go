// Package kind is the catalogue of built-in kinds.
//
// It owns what is particular about each kind: names, scope, served versions,
// defaults, validation, table columns, subresources, deletion rules. A kind is
// data with functions beside it, one file per kind or close family; the
// request pipeline, the store and discovery are generic over it. It promises
// that its functions are pure and that what they accept and answer is what
// upstream accepts and answers. It refuses I/O and knows no cluster state.
package kind
