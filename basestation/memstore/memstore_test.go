package memstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/basestation/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		before := goleak.IgnoreCurrent()
		t.Cleanup(func() { goleak.VerifyNone(t, before) })
		first, used := memstore.New(), false
		return func() store.Store {
			if !used {
				used = true
				return first
			}
			return first.Join()
		}
	})
}
