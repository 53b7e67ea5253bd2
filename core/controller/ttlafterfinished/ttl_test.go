package ttlafterfinished_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/ttlafterfinished"
)

func TestStories(t *testing.T) {
	controllertest.Run(t, "", ttlafterfinished.New(prometheus.NewRegistry()))
}
