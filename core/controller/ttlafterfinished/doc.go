// Package ttlafterfinished deletes Jobs that have been finished for as long as
// their spec.ttlSecondsAfterFinished says, with their pods first.
//
// It owns nothing else, and refuses Jobs without that field.
package ttlafterfinished
