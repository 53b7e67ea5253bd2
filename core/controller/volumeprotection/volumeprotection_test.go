package volumeprotection_test

import (
	"testing"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/volumeprotection"
)

func TestClaims(t *testing.T)  { controllertest.Run(t, "claims", volumeprotection.NewClaims()) }
func TestVolumes(t *testing.T) { controllertest.Run(t, "volumes", volumeprotection.NewVolumes()) }
func TestClasses(t *testing.T) { controllertest.Run(t, "classes", volumeprotection.NewClasses()) }
