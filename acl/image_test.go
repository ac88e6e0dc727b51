package acl

import (
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// imageOf is the file of a copy with so many users, up to its last page in use.
func imageOf(tb testing.TB, users int) []byte {
	tb.Helper()
	sealer, err := newSealer(make([]byte, storeKeyBytes))
	if err != nil {
		tb.Fatal(err)
	}
	c := &storeCopy{path: filepath.Join(tb.TempDir(), "image.db"), sealer: sealer}
	if err := c.rebuild(bigList(tb, users)); err != nil {
		tb.Fatal(err)
	}
	if err := c.close(); err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(c.path)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := newestMeta(data)
	if err != nil {
		tb.Fatal(err)
	}
	return data[:m.high*pageBytes]
}

func TestVetAcceptsWhatBboltWrites(t *testing.T) {
	for _, users := range []int{1, 2, 10, 100, MaxUsers} {
		if err := vet(imageOf(t, users)); err != nil {
			t.Errorf("%d users: %v", users, err)
		}
	}
}

// What passes vet must not make bbolt panic or fault, not even in a goroutine of
// its own, which would end the process.
func FuzzImage(f *testing.F) {
	small := imageOf(f, 3)
	f.Add(uint32(0), byte(0), uint32(0), byte(0))
	f.Add(uint32(2*pageBytes+10), byte(1), uint32(3*pageBytes), byte(0xff))
	large := imageOf(f, 60)
	path := filepath.Join(f.TempDir(), "fuzz.db")
	f.Fuzz(func(t *testing.T, at uint32, to byte, at2 uint32, to2 byte) {
		for _, image := range [][]byte{small, large} {
			data := append([]byte(nil), image...)
			// Metas are guarded by a sum of their own; the pages below are not.
			body := uint32(len(data) - 2*pageBytes)
			data[2*pageBytes+at%body] ^= to
			data[2*pageBytes+at2%body] ^= to2
			if vet(data) != nil {
				continue
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			c := &storeCopy{path: path}
			err := guard(func() error {
				db, err := bbolt.Open(path, 0o600, c.options(false))
				if err != nil {
					return err
				}
				defer func() { _ = db.Close() }()
				return db.View(check)
			})
			if err != nil {
				t.Fatalf("%d ^ %02x, %d ^ %02x passed vet, but: %v", at, to, at2, to2, err)
			}
		}
	})
}
