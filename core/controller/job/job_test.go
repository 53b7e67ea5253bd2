package job_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/job"
)

func TestStories(t *testing.T) { controllertest.Run(t, "jobs", job.New(prometheus.NewRegistry())) }

func TestOrphans(t *testing.T) { controllertest.Run(t, "orphans", job.NewOrphans()) }
