package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

func fingerprint(n byte) identity.Fingerprint {
	return identity.Fingerprint{n, 1, 2, 3, 4, 5, n}
}

func device(n byte, name string, addresses ...string) Device {
	return Device{Fingerprint: fingerprint(n), ID: fingerprint(n).ID(), Name: name, Addresses: addresses}
}

func TestManyWritersLoseNothing(t *testing.T) {
	dir := t.TempDir()
	const writers, each = 6, 8
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			h, err := Open(dir) // as another process would: its own descriptor for the lock
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				if err := h.Remember(device(byte(w*each+i), fmt.Sprint("device ", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	h, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Devices(); err != nil || len(got) != writers*each {
		t.Fatalf("%d devices, %v", len(got), err)
	}
	for _, name := range []string{identityFile, bookFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

func TestFirstRunsAgreeOnOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	keys := make(chan identity.Fingerprint, 8)
	for range cap(keys) {
		go func() {
			h, err := Open(dir)
			if err != nil {
				t.Error(err)
				keys <- identity.Fingerprint{}
				return
			}
			keys <- h.Key().Fingerprint()
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		if got := <-keys; got != first || got.IsZero() {
			t.Errorf("keys %s and %s", first, got)
		}
	}
}

func TestBadBooksAreNamedAndKept(t *testing.T) {
	entry := `{"id":"` + string(fingerprint(1).ID()) + `","fingerprint":"` + fingerprint(1).String() + `","name":"n","checked":true}`
	for _, c := range []struct{ text, want string }{
		{``, "empty"},
		{`{"version":1,"devices":[`, "ends early"},
		{`{"version":3,"devices":[],"more":{}}`, "newer keyhole"},
		{`{"version":0,"devices":[]}`, "version 0"},
		{`{"version":1,"devices":[],"extra":1}`, "unknown field"},
		{`{"version":1,"devices":[` + entry + `,` + entry + `]}`, "twice"},
		{`{"version":1,"devices":[{"id":"x","fingerprint":"","name":"n","checked":true}]}`, "not a"},
		{strings.Replace(`{"version":1,"devices":[`+entry+`]}`, string(fingerprint(1).ID()), string(fingerprint(2).ID()), 1), "not the fingerprint's"},
		{`{"version":1,"devices":[` + strings.Replace(entry, `"name"`, `"addresses":["nowhere"],"name"`, 1) + `]}`, "HOST:PORT"},
		{strings.Repeat(" ", maxBookBytes+1), "larger than"},
	} {
		h := newHome(t)
		if err := os.WriteFile(h.bookPath(), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad *BookError
		err := h.Remember(device(9, "new"))
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.text, err, c.want)
		}
		if now, _ := os.ReadFile(h.bookPath()); string(now) != c.text {
			t.Errorf("%.60q was written over", c.text)
		}
	}
}

func TestBookLimits(t *testing.T) {
	b := &book{Version: bookVersion}
	for i := range maxDevices {
		if err := b.put(Device{Fingerprint: identity.Fingerprint{byte(i), byte(i >> 8), 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.put(device(200, "one more")); err == nil {
		t.Error("more devices than the limit")
	}
	if err := b.put(Device{Fingerprint: fingerprint(1), Name: strings.Repeat("x", maxTextBytes+1)}); err == nil {
		t.Error("a text over the limit")
	}
}

func TestReachedKeepsTheFreshestAddresses(t *testing.T) {
	h := newHome(t)
	a, b := device(1, "a", "192.0.2.1:7443"), device(2, "b", "192.0.2.2:7443")
	for _, d := range []Device{a, b} {
		if err := h.Remember(d); err != nil {
			t.Fatal(err)
		}
	}
	// DHCP gave b the address that a had.
	if err := h.reached(b.Fingerprint, "192.0.2.1:7443"); err != nil {
		t.Fatal(err)
	}
	for n := range maxAddresses + 3 {
		if err := h.reached(a.Fingerprint, fmt.Sprintf("192.0.2.%d:7443", 10+n)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := h.Devices()
	if err != nil {
		t.Fatal(err)
	}
	if got := list[0].Addresses; len(got) != maxAddresses || got[0] != fmt.Sprintf("192.0.2.%d:7443", 10+maxAddresses+2) {
		t.Errorf("addresses of a: %v", got)
	}
	if got := list[1].Addresses; len(got) != 2 || got[0] != "192.0.2.1:7443" {
		t.Errorf("addresses of b: %v", got)
	}
}

func FuzzBook(f *testing.F) {
	good, err := (&book{Version: 1, Devices: []Device{device(1, "Front door", "192.0.2.1:7443", "[fe80::1%eth0]:7443")}}).format()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	away := device(2, "Away", "192.0.2.1:7443")
	away.Basestation = Basestation{Addresses: []string{"base.example.net:7443"}, Keys: []string{rootKey(1), rootKey(2)}, Presence: []byte("pass"), Floors: []uint64{3}}
	if good, err = (&book{Devices: []Device{away}}).format(); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"devices":null}`))
	f.Add([]byte(`{"version":1,"Version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBook(data)
		if err != nil {
			return
		}
		again, err := b.format()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseBook(again); err != nil {
			t.Fatalf("%q becomes %q: %v", data, again, err)
		}
	})
}

// Who could write the book could have another key believed.
func TestBookThatOthersMayChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book.json")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o664: false, 0o666: false} {
		if err := errors.Join(os.WriteFile(path, []byte(`{"version": 1, "devices": []}`), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := readBook(path); (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}
