package store

import (
	"fmt"

	"binnacle.io/core/client"
)

// Rehearse returns what reads would show had obj been written: what the
// encoding does not tell apart (an empty list and none) is lost. The
// resourceVersion stays as it is. Nothing is written, and obj is not kept.
func (s *Store) Rehearse(gr client.Resource, obj client.Object) (client.Object, error) {
	t, err := s.table(gr)
	if err != nil {
		return nil, err
	}
	value, err := encode(t.kind, obj)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s %s: %w", gr, client.KeyOf(obj), err)
	}
	out, err := decode(t.kind, value, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read back %s %s: %w", gr, client.KeyOf(obj), err)
	}
	out.SetResourceVersion(obj.GetResourceVersion())
	return out, nil
}
