// Package probe asks containers how they are.
//
// It owns the four ways of asking (exec, httpGet, tcpSocket, grpc) and Loop,
// which turns single answers into verdicts by a probe's delays and thresholds.
// It promises that a verdict changes only after as many equal answers in a row
// as the probe says, and that a probe never outlives its context. It refuses to
// act on verdicts.
package probe
