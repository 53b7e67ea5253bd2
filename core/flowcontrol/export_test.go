package flowcontrol

import (
	"context"

	"binnacle.io/core/client"
)

// Maintain is one pass of the maintenance that Run does every minute.
func Maintain(ctx context.Context, c client.Client) error {
	return (&Controller{client: c}).maintain(ctx)
}
