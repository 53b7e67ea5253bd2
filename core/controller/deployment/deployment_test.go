package deployment_test

import (
	"testing"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/deployment"
)

func TestStories(t *testing.T) { controllertest.Run(t, "", deployment.New()) }
