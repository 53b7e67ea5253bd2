package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/kind"
)

// storedOnly are kinds that the API keeps and nothing acts on yet
// (docs/status.md). Whoever writes one is told, so that nobody waits for it.
func storedOnly() map[schema.GroupResource]string {
	return map[schema.GroupResource]string{
		{Group: "apps", Resource: "daemonsets"}:                                              "no pods are made for it",
		{Group: "apps", Resource: "statefulsets"}:                                            "no pods are made for it",
		{Group: "networking.k8s.io", Resource: "networkpolicies"}:                            "no traffic is dropped by it",
		{Group: "networking.k8s.io", Resource: "ingresses"}:                                  "no traffic is served by it",
		{Resource: "persistentvolumeclaims"}:                                                 "it is not bound, and pods that need it stay pending",
		{Resource: "persistentvolumes"}:                                                      "it is not bound to claims",
		{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"}: "its webhooks are not called",
		{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"}:   "its webhooks are not called",
		{Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies"}:     "it admits and refuses nothing",
		{Group: "admissionregistration.k8s.io", Resource: "mutatingadmissionpolicies"}:       "it changes nothing",
		{Group: "resource.k8s.io", Resource: "resourceclaims"}:                               "no device is allocated to it",
		{Group: "resource.k8s.io", Resource: "resourceclaimtemplates"}:                       "no claims are made from it",
		{Group: "resource.k8s.io", Resource: "resourceslices"}:                               "its devices are not allocated",
		{Group: "resource.k8s.io", Resource: "deviceclasses"}:                                "no device is allocated by it",
		{Group: "resource.k8s.io", Resource: "devicetaintrules"}:                             "it taints nothing",
		{Group: "storagemigration.k8s.io", Resource: "storageversionmigrations"}:             "nothing is migrated",
	}
}

// warnStoredOnly makes the API say so when such an object is written.
func warnStoredOnly(kinds *kind.Catalogue) {
	for gr, consequence := range storedOnly() {
		k, ok := kinds.ByGroupResource(gr)
		if !ok {
			continue // named in a test
		}
		own := k.Warnings
		text := fmt.Sprintf("%s is stored only, nothing acts on it yet: %s", k.Hub.Kind, consequence)
		k.Warnings = func(o kind.Object) []string {
			if own == nil {
				return []string{text}
			}
			return append(own(o), text)
		}
	}
}
