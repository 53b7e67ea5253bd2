package namespace_test

import (
	"testing"

	"binnacle.io/core/client"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/namespace"
)

func TestStories(t *testing.T) {
	controllertest.Run(t, "", namespace.New(func() []client.Resource {
		return []client.Resource{{Resource: "configmaps"}, {Resource: "pods"}}
	}))
}
