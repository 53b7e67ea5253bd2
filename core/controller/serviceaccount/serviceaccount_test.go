package serviceaccount_test

import (
	"testing"

	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/serviceaccount"
)

func TestAccounts(t *testing.T) { controllertest.Run(t, "accounts", serviceaccount.New()) }
func TestRootCA(t *testing.T)   { controllertest.Run(t, "ca", serviceaccount.NewRootCA("PEM")) }
