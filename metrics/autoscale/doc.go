// Package autoscale is the HorizontalPodAutoscaler controller of
// autoscaling/v2, working on the samples that the metrics product takes every
// second.
//
// It owns the pure function Decide, from the state of one autoscaler to the
// size of its target with conditions and reasons; the controller that reads
// that state once a second, writes the target's scale, the autoscaler's status
// and events; and a bounded record of decisions with their inputs.
//
// It promises upstream's rules: tolerance, pods that are missing, not ready or
// just starting, stabilisation windows, scaling policies, and upstream's
// condition reasons and messages. It differs in time: upstream looks every 15 s
// at CPU averaged over 10-30 s; here it is every second over 5 s, so that a
// step of load is acted upon in less than five seconds. What is short is
// noisy: whoever wants calm sets behavior.scaleUp.stabilizationWindowSeconds.
// Rates of change are unaffected, since policies count in seconds, not ticks.
//
// Metrics of type Pods, Object and External are read by PromQL: the metric's
// name with the labels namespace and pod (or the object's kind in lower case)
// and those of the selector. Where no such series exists, the rate over 30 s of
// the counter <name>_total is taken. When there is neither, the autoscaler's
// condition says so and nothing is scaled on that metric. It refuses targets
// without a scale known to it.
package autoscale
