// Package queue keeps notifications until they are delivered.
//
// It owns one file with a first-in-first-out queue per destination. It promises
// that an item is on disk when Put returns, that it stays until Done, a bound or
// its age removes it, that items of one group are handed out in the order they
// were put, and that groups with a critical item go before the others. Bounds
// are per destination, so one that is down cannot push out another's items, and
// every item let go is reported with the reason.
//
// It refuses to know what a notification is or how it is delivered.
package queue
