package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// Files of a Home.
const (
	identityFile = "identity.pem" // private key and certificate, so that curl --cert can be this client
	bookFile     = "book.json"
	lockFile     = "lock"
)

// A Home is a directory that holds who this client is and what it knows. Several
// processes may use one at the same time.
type Home struct {
	dir        string
	key        *identity.Key
	resumption *session.Resumption
}

// DefaultDir is the platform's configuration directory for this user, such as
// ~/.config/keyhole.
func DefaultDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no configuration directory: %w", err)
	}
	return filepath.Join(dir, "keyhole"), nil
}

// Open opens the Home in dir, making the directory and the key where there are
// none.
func Open(dir string) (*Home, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("home directory: %w", err)
	}
	h := &Home{dir: dir, resumption: session.NewResumption()}
	// Under the lock, so that of two first runs one makes the key.
	err := h.locked(func() (err error) {
		h.key, err = identity.LoadOrCreate(filepath.Join(dir, identityFile))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return h, nil
}

// Dir is the directory.
func (h *Home) Dir() string { return h.dir }

// Key is this client's identity.
func (h *Home) Key() *identity.Key { return h.key }

// String names the directory.
func (h *Home) String() string { return "home " + h.dir }

// Devices returns the devices in the address book, in the order they came in.
func (h *Home) Devices() ([]Device, error) {
	b, err := readBook(h.bookPath())
	if err != nil {
		return nil, err
	}
	return b.Devices, nil
}

// Remember puts a device into the address book, or replaces what is known of
// the device with this fingerprint.
func (h *Home) Remember(d Device) error {
	return h.change(func(b *book) (bool, error) { return true, b.put(d) })
}

// Forget removes the device with this fingerprint from the address book. The
// device is not told: it still knows this client until somebody revokes it.
func (h *Home) Forget(f identity.Fingerprint) error {
	return h.change(func(b *book) (bool, error) { return b.remove(f), nil })
}

// reached notes an address at which a device of the book has just proven itself.
func (h *Home) reached(f identity.Fingerprint, address string) error {
	d, known := h.byFingerprint(f)
	if !known || len(d.Addresses) > 0 && d.Addresses[0] == address {
		return nil
	}
	return h.change(func(b *book) (bool, error) { return b.reached(f, address), nil })
}

func (h *Home) byFingerprint(f identity.Fingerprint) (Device, bool) {
	b, err := readBook(h.bookPath())
	if err != nil {
		return Device{}, false
	}
	if i := b.index(f); i >= 0 {
		return b.Devices[i], true
	}
	return Device{}, false
}

func (h *Home) bookPath() string { return filepath.Join(h.dir, bookFile) }

// change reads, changes and writes the book as one step for all processes.
func (h *Home) change(f func(*book) (changed bool, err error)) error {
	return h.locked(func() error {
		b, err := readBook(h.bookPath())
		if err != nil {
			return err
		}
		changed, err := f(b)
		if err != nil || !changed {
			return err
		}
		data, err := b.format()
		if err != nil {
			return err
		}
		if err := durable.WriteFile(h.bookPath(), data, 0o600); err != nil {
			return fmt.Errorf("address book: %w", err)
		}
		return nil
	})
}

func (h *Home) locked(f func() error) error {
	file, err := os.OpenFile(filepath.Join(h.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := lock(file); err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
	}
	err = f()
	return errors.Join(err, file.Close()) // closing gives the lock back
}
