package endpointslice_test

import (
	"testing"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/endpointslice"
)

func TestSlices(t *testing.T)    { controllertest.Run(t, "slices", endpointslice.New()) }
func TestEndpoints(t *testing.T) { controllertest.Run(t, "endpoints", endpointslice.NewEndpoints()) }
func TestMirroring(t *testing.T) { controllertest.Run(t, "mirror", endpointslice.NewMirroring()) }
