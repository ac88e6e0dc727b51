package client

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

var (
	// ErrNoSupportCode means that the device shows no support code now, or not to whom we
	// have reached.
	ErrNoSupportCode = errors.New("the device shows no support code now")

	// ErrWrongSupportCode means that the device has not proven the code that was typed.
	ErrWrongSupportCode = errors.New("the code is not the one that the device shows")

	// ErrNotSupportCode means that what was typed cannot be a support code.
	ErrNotSupportCode = pairing.ErrNotSupportCode

	// ErrVendorKeyNeeded means that the device wants the vendor's support key proven.
	ErrVendorKeyNeeded = errors.New("the device lets in only who has its vendor's support key")
)

// SupportOptions say whom to help. At is needed where Target is empty.
type SupportOptions struct {
	Target string      // as for Dial: in this network, or of the address book; "": by call number
	At     Basestation // where the device's call number is known

	// Number and Code ask the person for what the device shows. Number is not asked for
	// with a Target.
	Number func(context.Context) (string, error)
	Code   func(context.Context) (string, error)
	// Vendor is the vendor's support key; nil: there is none.
	Vendor *identity.Key
	Dial   DialOptions
}

// A Support is a session with a device whose owner asked for help. Everything of Conn is
// there as far as the device allows it. Close ends the session here; End ends it at the
// device as well.
type Support struct {
	*Conn
	Began api.Support // as the device said at the beginning

	borrowed bool // the entry in the address book is for this session only
	ending   sync.Once
}

// Support finds a device that shows a support code, and proves it. While it lasts the
// device is in the address book, so that other commands of this client reach it too.
func (h *Home) Support(ctx context.Context, o SupportOptions) (*Support, error) {
	conn, err := h.dialSupport(ctx, o)
	if err != nil {
		return nil, err
	}
	began, err := conn.claimSupport(ctx, o)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &Support{Conn: conn, Began: began}
	if _, known := h.byFingerprint(conn.Peer()); !known {
		conn.device.Name, conn.device.Role, conn.device.Basestation = began.Device, "support", o.At
		if err := h.Remember(conn.device); err != nil {
			conn.log.Warn("the device is not in the address book: other commands do not find it", "error", err)
		} else {
			s.borrowed = true
		}
	}
	return s, nil
}

// dialSupport reaches the device: where it was said to be, or by its call number.
func (h *Home) dialSupport(ctx context.Context, o SupportOptions) (*Conn, error) {
	if o.Target != "" {
		return h.Dial(ctx, o.Target, o.Dial)
	}
	typed, err := o.Number(ctx)
	if err != nil {
		return nil, err
	}
	number, err := ParseCallNumber(typed)
	if err != nil {
		return nil, err
	}
	id, err := h.FindCall(ctx, o.At, number, o.Dial.Log)
	if err != nil {
		return nil, err
	}
	return h.DialStranger(ctx, id, o.At, pairing.SupportPass(number, id, h.key.Fingerprint()), o.Dial)
}

// claimSupport proves the code. It is asked for once the device is there and shows one.
func (c *Conn) claimSupport(ctx context.Context, o SupportOptions) (state api.Support, err error) {
	if _, err := c.supportSalt(ctx, o); err != nil {
		return state, err
	}
	typed, err := o.Code(ctx)
	if err != nil {
		return state, err
	}
	code, err := pairing.ParseSupportCode(typed)
	if err != nil {
		return state, err
	}
	salt, err := c.supportSalt(ctx, o) // the person may have pressed again
	if err != nil {
		return state, err
	}
	exporter, err := c.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return state, err
	}
	asker, err := pairing.NewSupportAsker(c.home.key.Fingerprint(), c.Peer(), exporter, code, salt)
	if err != nil {
		return state, err
	}
	begin := api.SupportBegin{Share: hex.EncodeToString(asker.Share())}
	if o.Vendor != nil {
		proof, err := pairing.NewVendorProof(o.Vendor, c.home.key.Fingerprint(), c.Peer(), exporter)
		if err != nil {
			return state, err
		}
		begin.VendorKey, begin.Signature = hex.EncodeToString(proof.PublicKey), hex.EncodeToString(proof.Signature)
	}
	return c.proveSupport(ctx, begin, asker)
}

func (c *Conn) proveSupport(ctx context.Context, begin api.SupportBegin, asker *pairing.SupportAsker) (state api.Support, err error) {
	var challenge api.SupportChallenge
	if err := c.Call(ctx, http.MethodPost, "/v1/support", begin, &challenge); err != nil {
		return state, supportRefused(err)
	}
	share, bad := hex.DecodeString(challenge.Share)
	confirm, worse := hex.DecodeString(challenge.Confirm)
	if bad != nil || worse != nil {
		return state, errors.New("the device's answer is not understood: its share or proof is not hexadecimal")
	}
	proof, err := asker.Answer(pairing.CodeReply{Exchange: challenge.Exchange, Share: share, Confirm: confirm})
	switch {
	case errors.Is(err, pairing.ErrWrongCode):
		return state, ErrWrongSupportCode
	case err != nil:
		return state, err
	}
	err = c.Call(ctx, http.MethodPost, "/v1/support/confirm",
		api.SupportConfirm{Exchange: proof.Exchange, Confirm: hex.EncodeToString(proof.Confirm)}, &state)
	return state, supportRefused(err)
}

// supportRefused makes an error of ours of the one no of a device.
func supportRefused(err error) error {
	if api.IsCode(err, api.CodeClosed) {
		return ErrNoSupportCode
	}
	return err
}

// supportSalt checks that a code is shown, and how the device wants it stretched.
func (c *Conn) supportSalt(ctx context.Context, o SupportOptions) ([]byte, error) {
	hello, err := c.Hello(ctx)
	if err != nil {
		return nil, err
	}
	offer := hello.Support
	switch {
	case offer == nil:
		return nil, ErrNoSupportCode
	case offer.Vendor && o.Vendor == nil:
		return nil, ErrVendorKeyNeeded
	case offer.KiB != pairing.StretchKiB || offer.Passes != pairing.StretchPasses || offer.Lanes != pairing.StretchLanes:
		return nil, errors.New("the device wants the code stretched in a way that this client does not know: update it")
	}
	salt, err := hex.DecodeString(offer.Salt)
	if err != nil || len(salt) != pairing.SaltBytes {
		return nil, errors.New("the device's answer is not understood: its salt is not 16 bytes")
	}
	return salt, nil
}

// SupportState asks how support is.
func (c *Conn) SupportState(ctx context.Context) (api.Support, error) {
	return get[api.Support](ctx, c, "/v1/support")
}

// AskControl has the display ask whether this client may use services, and returns when
// somebody has held the button, or nobody for a minute.
func (c *Conn) AskControl(ctx context.Context) (state api.Support, err error) {
	err = c.Call(ctx, http.MethodPost, "/v1/support/control", nil, &state)
	return state, err
}

// endTime bounds the goodbye.
const endTime = 3 * time.Second

// End ends the session at the device and closes it here. It may be called again.
func (s *Support) End() {
	s.ending.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		_ = s.Call(ctx, http.MethodDelete, "/v1/support", nil, nil) // the session ends under the answer
		if s.borrowed {
			if err := s.home.Forget(s.Peer()); err != nil {
				s.log.Warn("the device stays in the address book", "error", err)
			}
		}
		s.Close()
	})
}
