package replicaset_test

import (
	"testing"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/replicaset"
)

func TestStories(t *testing.T) { controllertest.Run(t, "", replicaset.New()) }
