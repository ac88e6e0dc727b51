package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"unicode/utf8"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A Device is an entry of the address book.
type Device struct {
	ID          identity.ID          `json:"id"`
	Fingerprint identity.Fingerprint `json:"fingerprint"` // the pin
	Name        string               `json:"name"`
	Product     string               `json:"product,omitempty"`
	User        string               `json:"user,omitempty"` // who this client is there
	Role        string               `json:"role,omitempty"`
	Addresses   []string             `json:"addresses,omitempty"` // HOST:PORT, the one that worked last first
	// Checked says that the key was known before it was trusted, or that a person
	// compared the digits.
	Checked bool `json:"checked"`
	// Basestation is how to reach it from beyond its network.
	Basestation Basestation `json:"basestation,omitzero"`
}

// String names the device as people do.
func (d Device) String() string {
	switch {
	case d.Name != "":
		return d.Name
	case d.ID != "":
		return string(d.ID)
	case len(d.Addresses) > 0:
		return d.Addresses[0]
	}
	return "nameless device"
}

// Limits of the address book: far above what a person has, and little to read.
const (
	bookVersion    = 2 // written only where a device has a basestation: before, it was 1
	firstVersion   = 1
	maxBookBytes   = 2 << 20
	maxDevices     = 1000
	maxAddresses   = 8
	maxTextBytes   = 512
	maxAddressText = 320 // a DNS name of 253, brackets, zone, port
)

// book is the file: one JSON document.
type book struct {
	Version int      `json:"version"`
	Devices []Device `json:"devices"`
}

// A BookError says why the address book cannot be used. Nothing is ever written
// over such a file.
type BookError struct {
	Path string
	Err  error
}

func (e *BookError) Error() string {
	return fmt.Sprintf("address book %s: %v (repair it, or move it away and pair again)", e.Path, e.Err)
}

func (e *BookError) Unwrap() error { return e.Err }

func readBook(path string) (*book, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &book{Version: firstVersion}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o022 != 0 && runtime.GOOS != "windows" { // which has no such modes
		return nil, &BookError{path, fmt.Errorf("others may change which keys are believed (mode %04o): run `chmod 600 %s`", info.Mode().Perm(), path)}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBookBytes+1))
	if err != nil {
		return nil, &BookError{path, err}
	}
	b, err := parseBook(data)
	if err != nil {
		return nil, &BookError{path, err}
	}
	return b, nil
}

func parseBook(data []byte) (*book, error) {
	if len(data) > maxBookBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxBookBytes)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err == nil && head.Version > bookVersion {
		return nil, fmt.Errorf("written by a newer keyhole (version %d of the file)", head.Version)
	}
	var b book
	if err := api.Decode(data, &b); err != nil {
		return nil, errors.New(err.Error()) // not the answer of a device
	}
	return &b, b.check()
}

func (b *book) check() error {
	if b.Version < firstVersion || b.Version > bookVersion {
		return fmt.Errorf("version %d, want %d or %d", b.Version, firstVersion, bookVersion)
	}
	if len(b.Devices) > maxDevices {
		return fmt.Errorf("more than %d devices", maxDevices)
	}
	seen := map[identity.Fingerprint]bool{}
	for i, d := range b.Devices {
		if err := d.check(); err != nil {
			return fmt.Errorf("device %d: %w", i+1, err)
		}
		if seen[d.Fingerprint] {
			return fmt.Errorf("device %d: its fingerprint is there twice", i+1)
		}
		seen[d.Fingerprint] = true
	}
	return nil
}

func (d Device) check() error {
	if d.Fingerprint.IsZero() {
		return errors.New("no fingerprint")
	}
	if d.ID != d.Fingerprint.ID() {
		return errors.New("the id is not the fingerprint's")
	}
	for _, s := range []string{d.Name, d.Product, d.User, d.Role} {
		if len(s) > maxTextBytes || !utf8.ValidString(s) {
			return fmt.Errorf("a text is longer than %d bytes or not UTF-8", maxTextBytes)
		}
	}
	if len(d.Addresses) > maxAddresses {
		return fmt.Errorf("more than %d addresses", maxAddresses)
	}
	for _, a := range d.Addresses {
		if _, err := parseAddress(a); err != nil {
			return err
		}
	}
	return d.Basestation.check()
}

func (b *book) index(f identity.Fingerprint) int {
	return slices.IndexFunc(b.Devices, func(d Device) bool { return d.Fingerprint == f })
}

func (b *book) put(d Device) error {
	d.ID = d.Fingerprint.ID()
	d.Addresses = slices.Clone(d.Addresses[:min(len(d.Addresses), maxAddresses)])
	if err := d.check(); err != nil {
		return err
	}
	if i := b.index(d.Fingerprint); i >= 0 {
		b.Devices[i] = d
		return nil
	}
	if len(b.Devices) >= maxDevices {
		return fmt.Errorf("the address book is full: it holds %d devices", maxDevices)
	}
	b.Devices = append(b.Devices, d)
	return nil
}

func (b *book) remove(f identity.Fingerprint) bool {
	i := b.index(f)
	if i < 0 {
		return false
	}
	b.Devices = slices.Delete(b.Devices, i, i+1)
	return true
}

// reached moves an address to the front. An address leads to one device, so the
// others lose it.
func (b *book) reached(f identity.Fingerprint, address string) bool {
	if _, err := parseAddress(address); err != nil || b.index(f) < 0 {
		return false
	}
	for i := range b.Devices {
		d := &b.Devices[i]
		d.Addresses = slices.DeleteFunc(slices.Clone(d.Addresses), func(a string) bool { return a == address })
		if d.Fingerprint == f {
			d.Addresses = append([]string{address}, d.Addresses...)
			d.Addresses = d.Addresses[:min(len(d.Addresses), maxAddresses)]
		}
	}
	return true
}

func (b *book) format() ([]byte, error) {
	if b.Devices == nil {
		b.Devices = []Device{}
	}
	b.Version = firstVersion
	if slices.ContainsFunc(b.Devices, func(d Device) bool { return !d.Basestation.IsZero() }) {
		b.Version = bookVersion // older programs say that they are too old
	}
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}
