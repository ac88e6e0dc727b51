package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	callPrefix = "call/"

	// CallLife is how long a call number leads to its device: as long as the code that
	// is shown beside it may be claimed.
	CallLife = 5 * time.Minute

	// callDraws is how often a number is drawn when the one before is in use. With a
	// thousandth of all in use it takes more than three once in a thousand million.
	callDraws = 5
)

// ErrNoCall means that a call number leads to nobody: it was never given out, or is over.
var ErrNoCall = errors.New("nobody has this call number")

// errCallsFull means that no free number was drawn.
var errCallsFull = errors.New("no free call number was found")

// A call is the record of a call number.
type call struct {
	Device identity.ID `json:"device"`
	Until  uint64      `json:"until"` // seconds since 1970, by the clock of the node that gave it out
}

func (c call) over() bool { return now() >= c.Until }

// GiveCall gives a device a call number that no other device of the fleet has.
func (r *Registry) GiveCall(ctx context.Context, device identity.ID) (number string, err error) {
	data, err := json.Marshal(call{Device: device, Until: now() + uint64(CallLife/time.Second)})
	if err != nil {
		return "", err
	}
	for range callDraws {
		number = randomCall()
		_, err = r.store.Create(ctx, callPrefix+number, data)
		if errors.Is(err, store.ErrExists) {
			err = r.replaceCall(ctx, number, data)
		}
		if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return number, err
		}
	}
	return "", errCallsFull
}

// replaceCall takes a number whose time is over: a node that died has not removed it.
func (r *Registry) replaceCall(ctx context.Context, number string, data []byte) error {
	var c call
	revision, err := r.getJSON(ctx, callPrefix+number, &c)
	if err != nil {
		return err
	}
	if !c.over() {
		return store.ErrExists
	}
	_, err = r.store.Update(ctx, callPrefix+number, data, revision)
	return err
}

// FindCall returns whose number it is. It returns ErrNoCall, or an error of the store.
func (r *Registry) FindCall(ctx context.Context, number string) (identity.ID, error) {
	var c call
	_, err := r.getJSON(ctx, callPrefix+number, &c)
	if errors.Is(err, store.ErrNotFound) || err == nil && c.over() {
		return "", ErrNoCall
	}
	return c.Device, err
}

// EndCall takes a number back from the device that has it. That it has none is no error.
func (r *Registry) EndCall(ctx context.Context, number string, device identity.ID) error {
	var c call
	revision, err := r.getJSON(ctx, callPrefix+number, &c)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case c.Device != device:
		return nil // given to somebody else since
	}
	if err = r.store.Delete(ctx, callPrefix+number, revision); errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

var callModulus = big.NewInt(1_000_000) // 10 to the attach.CallDigits

func randomCall() string {
	n, err := rand.Int(rand.Reader, callModulus)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return fmt.Sprintf("%0*d", attach.CallDigits, n)
}
