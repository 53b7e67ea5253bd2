package autoscale

import (
	"errors"
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
)

// groups sorts a target's pods by what their samples are worth.
type groups struct {
	ready                    int
	unready, missing, ignore map[string]bool
}

// group follows upstream: pods that end are ignored; pending ones are not
// ready; CPU of pods that have just started does not count.
func (s *State) group(samples map[string]Sample, cpu bool) groups {
	g := groups{unready: map[string]bool{}, missing: map[string]bool{}, ignore: map[string]bool{}}
	for _, p := range s.Pods {
		sample, found := samples[p.Name]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed:
			g.ignore[p.Name] = true
		case p.Status.Phase == corev1.PodPending:
			g.unready[p.Name] = true
		case !found:
			g.missing[p.Name] = true
		case cpu && s.starting(p, sample):
			g.unready[p.Name] = true
		default:
			g.ready++
		}
	}
	return g
}

// starting tells whether a pod's CPU sample may be that of its start-up.
func (s *State) starting(p *corev1.Pod, sample Sample) bool {
	var ready *corev1.PodCondition
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			ready = &p.Status.Conditions[i]
		}
	}
	start := p.Status.StartTime
	if ready == nil || start == nil {
		return true
	}
	if start.Add(s.Tuning.CPUInitialization).After(s.Now) {
		// A whole window must have been measured since it became ready.
		return ready.Status == corev1.ConditionFalse || sample.Time.Before(ready.LastTransitionTime.Add(sample.Window))
	}
	return ready.Status == corev1.ConditionFalse && start.Add(s.Tuning.InitialReadinessDelay).After(ready.LastTransitionTime.Time)
}

// outcome is what one metric computes.
type outcome struct {
	replicas int32
	groups   groups
	// utilization is in percent of requests; average in thousandths.
	utilization int32
	average     int64
}

var (
	errNoPods    = errors.New("no pods returned by selector while calculating replica count")
	errNoMetrics = errors.New("did not receive metrics for targeted pods (pods might be unready)")
)

// perPod computes the size from samples of pods. ratio turns samples into the
// ratio of usage to target; absent is what a pod without sample is taken to
// use when the ratio calls for fewer pods.
func (s *State) perPod(r *rules, samples map[string]Sample, cpu bool, ratio func(map[string]Sample) (float64, error), absent func(pod string) int64) (outcome, error) {
	o := outcome{replicas: s.Replicas}
	if len(s.Pods) == 0 {
		return o, errNoPods
	}
	o.groups = s.group(samples, cpu)
	g := &o.groups
	used := map[string]Sample{}
	for _, p := range s.Pods {
		if v, ok := samples[p.Name]; ok && !g.ignore[p.Name] && !g.unready[p.Name] {
			used[p.Name] = v
		}
	}
	if len(used) == 0 {
		return o, errNoMetrics
	}
	first, err := ratio(used)
	if err != nil {
		return o, err
	}
	upWithUnready := len(g.unready) > 0 && first > 1
	if !upWithUnready && len(g.missing) == 0 {
		if !r.tolerated(first) {
			o.replicas = clamp(math.Ceil(first * float64(g.ready)))
		}
		return o, nil
	}
	for name := range g.missing {
		switch {
		case first < 1:
			used[name] = Sample{Milli: absent(name)}
		case first > 1:
			used[name] = Sample{}
		}
	}
	if upWithUnready {
		for name := range g.unready {
			used[name] = Sample{}
		}
	}
	second, err := ratio(used)
	if err != nil {
		return o, err
	}
	if r.tolerated(second) || first < 1 && second > 1 || first > 1 && second < 1 {
		return o, nil
	}
	n := clamp(math.Ceil(second * float64(len(used))))
	if second < 1 && n > s.Replicas || second > 1 && n < s.Replicas {
		return o, nil
	}
	o.replicas = n
	return o, nil
}

func average(used map[string]Sample) int64 {
	var sum int64
	for _, v := range used {
		sum += v.Milli
	}
	return sum / int64(len(used))
}

// byUtilization aims at a percentage of what the pods request. container is
// empty for whole pods.
func (s *State) byUtilization(r *rules, reading Reading, name corev1.ResourceName, container string, target int32) (outcome, error) {
	requests, err := podRequests(s.Pods, name, container)
	if err != nil {
		return outcome{}, err
	}
	var shown *outcome
	var utilization int32
	var avg int64
	ratio := func(used map[string]Sample) (float64, error) {
		var usage, requested int64
		n := int64(0)
		for pod, v := range used {
			if q, ok := requests[pod]; ok {
				usage += v.Milli
				requested += q
				n++
			}
		}
		if requested == 0 {
			return 0, errors.New("no metrics returned matched known pods")
		}
		u := int32(usage * 100 / requested)
		if shown == nil { // the status shows what was measured, not assumed
			shown, utilization, avg = &outcome{}, u, usage/n
		}
		return float64(u) / float64(target), nil
	}
	o, err := s.perPod(r, reading.Pods, name == corev1.ResourceCPU, ratio, func(pod string) int64 {
		return requests[pod] * int64(max(100, target)) / 100
	})
	o.utilization, o.average = utilization, avg
	return o, err
}

// byAverage aims at an absolute value per pod, in thousandths.
func (s *State) byAverage(r *rules, samples map[string]Sample, cpu bool, target int64) (outcome, error) {
	if target <= 0 {
		return outcome{}, fmt.Errorf("invalid target value %d", target)
	}
	var shown bool
	var avg int64
	ratio := func(used map[string]Sample) (float64, error) {
		a := average(used)
		if !shown {
			shown, avg = true, a
		}
		return float64(a) / float64(target), nil
	}
	o, err := s.perPod(r, samples, cpu, ratio, func(string) int64 { return target })
	o.average = avg
	return o, err
}

// byValue aims at a value of something that is not a pod.
func (s *State) byValue(r *rules, value, target int64) (outcome, error) {
	o := outcome{replicas: s.Replicas, average: value}
	if target <= 0 {
		return o, fmt.Errorf("invalid target value %d", target)
	}
	ratio := float64(value) / float64(target)
	if s.Replicas == 0 {
		o.replicas = clamp(math.Ceil(ratio))
		return o, nil
	}
	if r.tolerated(ratio) {
		return o, nil
	}
	o.replicas = clamp(math.Ceil(ratio * float64(s.readyPods())))
	return o, nil
}

// byShare aims at a value divided by the number of pods.
func (s *State) byShare(r *rules, value, target int64) (outcome, error) {
	o := outcome{replicas: s.Observed}
	if target <= 0 {
		return o, fmt.Errorf("invalid target value %d", target)
	}
	if s.Observed == 0 || !r.tolerated(float64(value)/(float64(target)*float64(s.Observed))) {
		o.replicas = clamp(math.Ceil(float64(value) / float64(target)))
	}
	o.average = value
	if s.Observed > 0 {
		o.average = int64(math.Ceil(float64(value) / float64(s.Observed)))
	}
	return o, nil
}

func (s *State) readyPods() int {
	n := 0
	for _, p := range s.Pods {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.Status.Phase == corev1.PodRunning {
				n++
			}
		}
	}
	return n
}

// podRequests sums each pod's requests, restartable init containers included.
func podRequests(pods []*corev1.Pod, name corev1.ResourceName, container string) (map[string]int64, error) {
	out := make(map[string]int64, len(pods))
	for _, p := range pods {
		list := p.Spec.Containers
		for _, c := range p.Spec.InitContainers {
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				list = append(list[:len(list):len(list)], c)
			}
		}
		var sum int64
		for _, c := range list {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[name]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, p.Name)
			}
			sum += q.MilliValue()
		}
		out[p.Name] = sum
	}
	return out, nil
}
