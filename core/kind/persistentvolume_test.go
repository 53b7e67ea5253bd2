package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A volume's node affinity stays, but for beta labels that became stable.
func TestVolumeAffinityStays(t *testing.T) {
	t.Parallel()
	affinity := func(key, value string) *corev1.VolumeNodeAffinity {
		return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}},
		}}}}
	}
	const betaZone, zone = corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyZone
	for _, c := range []struct {
		name   string
		a, old *corev1.VolumeNodeAffinity
		same   bool
	}{
		{"as it was", affinity(zone, "a"), affinity(zone, "a"), true},
		{"stable zone", affinity(zone, "a"), affinity(betaZone, "a"), true},
		{"stable region", affinity(corev1.LabelTopologyRegion, "a"), affinity(corev1.LabelFailureDomainBetaRegion, "a"), true},
		{"stable instance type", affinity(corev1.LabelInstanceTypeStable, "a"), affinity(corev1.LabelInstanceType, "a"), true},
		{"stable os", affinity(corev1.LabelOSStable, "a"), affinity("beta.kubernetes.io/os", "a"), true},
		{"stable architecture", affinity(corev1.LabelArchStable, "a"), affinity("beta.kubernetes.io/arch", "a"), true},
		{"back to beta", affinity(betaZone, "a"), affinity(zone, "a"), false},
		{"another label", affinity(corev1.LabelTopologyRegion, "a"), affinity(betaZone, "a"), false},
		{"another zone", affinity(zone, "b"), affinity(betaZone, "a"), false},
		{"none", nil, affinity(zone, "a"), false},
		{"not required", &corev1.VolumeNodeAffinity{}, affinity(zone, "a"), false},
	} {
		if got := sameAffinity(c.a, c.old); got != c.same {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
