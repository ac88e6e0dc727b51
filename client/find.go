package client

import (
	"cmp"
	"context"
	"slices"

	"github.com/keyholed/keyhole/discovery"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Found is a device that was heard on the local network. Anybody can say
// anything there: only a session proves who it is.
type Found = discovery.Found

// Find listens for devices until ctx ends and returns those it heard, by name.
// FindTime is long enough for a quiet network.
func Find(ctx context.Context) ([]Found, error) {
	devices := map[identity.ID]Found{}
	if err := discovery.Browse(ctx, func(f Found) { devices[f.ID] = f }); err != nil {
		return nil, err
	}
	list := make([]Found, 0, len(devices))
	for _, f := range devices {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Found) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// hear calls found with each new address of a device until ctx ends.
func hear(ctx context.Context, id identity.ID, found func(address string)) error {
	told := map[string]bool{}
	return discovery.Browse(ctx, func(f Found) {
		if f.ID != id {
			return
		}
		for _, a := range f.Addresses {
			if s := a.String(); !told[s] {
				told[s] = true
				found(s)
			}
		}
	})
}
