package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	serialPrefix = "serial/"
	secretPrefix = "secret/"
	// maxSerial is what an ATTACH can carry.
	maxSerial = 64
)

// binding is the content of serial/HEX.
type binding struct {
	Serial      string               `json:"serial"`
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Bound       uint64               `json:"bound"` // seconds since 1970
}

// ErrSerial means that a text is no serial number.
var ErrSerial = errors.New("not a serial number: want 1 to 64 printable ASCII characters without spaces")

func checkSerial(serial string) error {
	outside := func(r rune) bool { return r <= ' ' || r > '~' }
	if serial == "" || len(serial) > maxSerial || strings.ContainsFunc(serial, outside) {
		return ErrSerial
	}
	return nil
}

// Bind returns the key that is bound to serial after the call: that of f if none
// was bound before. The change is durable, and the device registered, when it
// returns.
func (r *Registry) Bind(ctx context.Context, serial string, f identity.Fingerprint) (identity.Fingerprint, error) {
	if err := checkSerial(serial); err != nil {
		return identity.Fingerprint{}, err
	}
	key := hexKey(serialPrefix, serial)
	var b binding
	_, err := r.getJSON(ctx, key, &b) // the usual case: bound long ago
	if errors.Is(err, store.ErrNotFound) {
		data, err := json.Marshal(binding{serial, f, now()})
		if err != nil {
			return identity.Fingerprint{}, err
		}
		if _, err = r.store.Create(ctx, key, data); err == nil {
			return f, r.Add(ctx, Device{ID: f.ID(), Fingerprint: f, Serial: serial})
		}
		if !errors.Is(err, store.ErrExists) {
			return identity.Fingerprint{}, err
		}
		_, err = r.getJSON(ctx, key, &b) // another one was faster
		return b.Fingerprint, err
	}
	return b.Fingerprint, err
}

// Bound returns the key that is bound to a serial number. It returns
// store.ErrNotFound.
func (r *Registry) Bound(ctx context.Context, serial string) (identity.Fingerprint, error) {
	var b binding
	if err := checkSerial(serial); err != nil {
		return b.Fingerprint, errors.Join(store.ErrNotFound, err)
	}
	_, err := r.getJSON(ctx, hexKey(serialPrefix, serial), &b)
	return b.Fingerprint, err
}

// Reopen forgets which key a serial number is bound to: the next attach with its
// secret binds another one.
func (r *Registry) Reopen(ctx context.Context, serial string) error {
	if err := checkSerial(serial); err != nil {
		return err
	}
	return r.store.Delete(ctx, hexKey(serialPrefix, serial), 0)
}

// PutSecret stores the factory secret of a serial number, sealed.
func (r *Registry) PutSecret(ctx context.Context, serial string, s attach.Secret) error {
	if err := checkSerial(serial); err != nil {
		return err
	}
	key := hexKey(secretPrefix, serial)
	sealed, err := r.seal.Seal(key, s[:])
	if err == nil {
		_, err = r.store.Put(ctx, key, sealed)
	}
	return err
}

// Secret returns the factory secret of a serial number; known is false when
// there is none.
func (r *Registry) Secret(ctx context.Context, serial string) (s attach.Secret, known bool, err error) {
	if checkSerial(serial) != nil {
		return s, false, nil
	}
	key := hexKey(secretPrefix, serial)
	sealed, _, err := r.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	plain, err := r.seal.Open(key, sealed)
	if err == nil && len(plain) != len(s) {
		err = fmt.Errorf("record %s has a wrong length", key)
	}
	if err != nil {
		return s, false, err
	}
	return attach.Secret(plain), true, nil
}

// RemoveSecret forgets the factory secret of a serial number.
func (r *Registry) RemoveSecret(ctx context.Context, serial string) error {
	if err := checkSerial(serial); err != nil {
		return err
	}
	return r.store.Delete(ctx, hexKey(secretPrefix, serial), 0)
}
