package disruption_test

import (
	"testing"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/disruption"
)

func TestStories(t *testing.T) { controllertest.Run(t, "budget", disruption.New()) }
