// Package cronjob starts Jobs at the times of a schedule.
//
// It owns the Jobs that carry its controller reference and the status of
// CronJobs. A Job's name is made of the minute it was scheduled for, and so is
// the proof that this time has been served: what is interrupted between making
// the Job and storing the status makes no second one. Of several times that
// were missed only the latest is made up for.
//
// It refuses nothing that validation lets through, but says so in an event when
// it cannot read a schedule or a time zone.
package cronjob
