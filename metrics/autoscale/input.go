package autoscale

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Sample is what one pod (or one container of it) used, in thousandths: of a
// core, of a byte, of a custom metric's unit.
type Sample struct {
	Milli  int64
	Time   time.Time
	Window time.Duration
}

// Reading is what was measured for one metric of the spec.
type Reading struct {
	// Pods has the sample of each pod that has one (Resource,
	// ContainerResource and Pods metrics).
	Pods map[string]Sample
	// Milli is the value of an Object or External metric, summed.
	Milli int64
	// Err is why there is no reading.
	Err error
}

// Tuning has the controller's parameters; see Config.
type Tuning struct {
	Tolerance              float64
	CPUInitialization      time.Duration
	InitialReadinessDelay  time.Duration
	DownscaleStabilization time.Duration
}

// State is everything a decision depends on.
type State struct {
	Now    time.Time
	Tuning Tuning
	Spec   autoscalingv2.HorizontalPodAutoscalerSpec
	// Replicas is what the target asks for, Observed what it has.
	Replicas, Observed int32
	// SelectorMissing: the target does not say which pods are its own.
	SelectorMissing bool
	// Pods are those the target's selector finds.
	Pods []*corev1.Pod
	// Readings are in order of Spec.Metrics.
	Readings []Reading
	// Memory is the Decision.Memory of the last decision; zero at first.
	Memory Memory
}

// Memory is what a decision must remember of those before it.
type Memory struct {
	// Recommendations are the sizes computed within the stabilisation
	// windows, oldest first.
	Recommendations []Recommendation
	// Ups and Downs are the changes made within the policies' periods.
	Ups, Downs []Change
}

// Recommendation is a computed size before stabilisation.
type Recommendation struct {
	Time     time.Time
	Replicas int32
}

// Change is a change of size that was made.
type Change struct {
	Time     time.Time
	Replicas int32
}

// Condition is a condition of the autoscaler's status.
type Condition struct {
	Type            autoscalingv2.HorizontalPodAutoscalerConditionType
	Status          corev1.ConditionStatus
	Reason, Message string
}

// Proposal is what one metric asks for.
type Proposal struct {
	Metric   string                     `json:"metric"`
	Replicas int32                      `json:"replicas"`
	Status   autoscalingv2.MetricStatus `json:"current"`
	Ready    int                        `json:"readyPods"`
	Unready  int                        `json:"unreadyPods"`
	Missing  int                        `json:"podsWithoutMetrics"`
	Error    string                     `json:"error,omitempty"`
}

// Decision is the outcome for one autoscaler.
type Decision struct {
	// Desired is the size to set when Rescale, else the present one.
	Desired int32
	Rescale bool
	// Reason explains a rescale as upstream's event does.
	Reason     string
	Proposals  []Proposal
	Conditions []Condition
	// Warnings are events to record: reason and message.
	Warnings []Warning
	// Err is why nothing could be computed.
	Err error
	// Recommended is the size before stabilisation, policies and bounds.
	Recommended int32
	Memory      Memory
}

// Warning is an event of type Warning.
type Warning struct{ Reason, Message string }

// Defaults of the scaling rules, as upstream's.
const (
	defaultPolicyPeriod       = 15
	defaultUpPercent          = 100
	defaultUpPods             = 4
	defaultDownPercent        = 100
	defaultCPUTarget    int32 = 80
)

func milli(v int64) *resource.Quantity { return resource.NewMilliQuantity(v, resource.DecimalSI) }
