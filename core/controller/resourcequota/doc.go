// Package resourcequota keeps the status of ResourceQuotas: how much is used.
//
// It promises that status.hard follows the spec and status.used the stored
// objects, by the rules of package admission/quota. It refuses to hold anyone to a
// quota: admission does that, and does not read this status. Names that count
// no kind it follows have no used value, as upstream.
package resourcequota
