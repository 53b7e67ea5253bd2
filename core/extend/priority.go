package extend

import "k8s.io/apimachinery/pkg/runtime/schema"

// priorities are upstream's: the order of groups in discovery, and of versions
// within one. Custom kinds come after the built-in ones.
func priorities(gv schema.GroupVersion) (group, version int32) {
	group, known := map[string]int32{
		"":                             18000,
		"apps":                         17800,
		"events.k8s.io":                17750,
		"authentication.k8s.io":        17700,
		"authorization.k8s.io":         17600,
		"autoscaling":                  17500,
		"batch":                        17400,
		"certificates.k8s.io":          17300,
		"networking.k8s.io":            17200,
		"policy":                       17100,
		"rbac.authorization.k8s.io":    17000,
		"storage.k8s.io":               16800,
		"admissionregistration.k8s.io": 16700,
		"apiextensions.k8s.io":         16700,
		"scheduling.k8s.io":            16600,
		"coordination.k8s.io":          16500,
		"node.k8s.io":                  16300,
		"discovery.k8s.io":             16200,
		"resource.k8s.io":              16200,
		"flowcontrol.apiserver.k8s.io": 16100,
		"storagemigration.k8s.io":      15800,
		"metrics.k8s.io":               100,
	}[gv.Group]
	switch {
	case !known:
		return 1000, 100
	case gv.Group == "":
		return group, 1
	case gv.Group == "metrics.k8s.io":
		return group, 100
	case gv.Group == "autoscaling" && gv.Version == "v2":
		return group, 30
	case gv.Group == "flowcontrol.apiserver.k8s.io", gv.Group == "resource.k8s.io":
		return group, 21
	}
	return group, 15
}
