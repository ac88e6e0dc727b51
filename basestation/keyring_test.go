package basestation

import (
	"slices"
	"sync"
	"testing"
)

// Who opens a new directory at the same moment gets the same keys.
func TestKeysAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	var rings [8]*Keyring
	var opening sync.WaitGroup
	for i := range rings {
		opening.Go(func() {
			var err error
			if rings[i], err = OpenKeyring(dir); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	for _, k := range rings {
		if k == nil || !slices.Equal(k.Keys(), rings[0].Keys()) {
			t.Fatal("not the same keys")
		}
	}
}
