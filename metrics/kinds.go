package metrics

import (
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"binnacle.io/core/kind"
)

// Kinds are those of metrics.k8s.io, for the API's catalogue. They are virtual:
// ResourceAPI answers for them.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		{
			Hub: metricsGV.WithKind("NodeMetrics"), Resource: "nodes", ClusterScoped: true,
			Verbs: []string{"get", "list"}, Virtual: true,
			New:     func() kind.Object { return &metricsv1beta1.NodeMetrics{} },
			NewList: func() runtime.Object { return &metricsv1beta1.NodeMetricsList{} },
		},
		{
			Hub: metricsGV.WithKind("PodMetrics"), Resource: "pods",
			Verbs: []string{"get", "list"}, Virtual: true,
			New:     func() kind.Object { return &metricsv1beta1.PodMetrics{} },
			NewList: func() runtime.Object { return &metricsv1beta1.PodMetricsList{} },
		},
	}
}
