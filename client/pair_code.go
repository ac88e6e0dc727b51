package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

var (
	// ErrCodeNeeded means that the device wants a code, and nobody was there to
	// read it.
	ErrCodeNeeded = errors.New("the device pairs by the code on its display or label")

	// ErrWrongCode means that the device has not proven the code that was typed.
	ErrWrongCode = pairing.ErrWrongCode

	// ErrNotCode means that what was typed cannot be a code.
	ErrNotCode = pairing.ErrNotCode

	// ErrNotLabel means that what was typed cannot be the code of a label.
	ErrNotLabel = pairing.ErrNotLabel

	// ErrNotEither means that what was typed can be neither.
	ErrNotEither = errors.New("not a code: want the 8 digits on the display, such as 1234 5678, or the 10 letters and digits of the label, such as 7K3MN-Q8ZTA")
)

// ErrNotOffered means that what was typed is a code that the device does not take now.
var ErrNotOffered = errors.New("the device does not take this kind of code now")

// prove pairs in one of the modes that the device offers. Proven says that the device
// has proven to know a code as well.
func (c *Conn) prove(ctx context.Context, o PairOptions, modes []string) (granted api.Paired, proven bool, err error) {
	wanted := Wanted{
		Display: slices.Contains(modes, pairing.ModeCode), Label: slices.Contains(modes, pairing.ModeLabel),
		Digits: slices.Contains(modes, pairing.ModeButton) && !o.codeOnly,
	}
	typed := ""
	switch {
	case !wanted.Display && !wanted.Label:
	case o.Code == nil && !wanted.Digits:
		return granted, false, ErrCodeNeeded
	case o.Code != nil:
		if typed, err = o.Code(ctx, wanted); err != nil {
			return granted, false, err
		}
	}
	switch {
	case wanted.Digits && strings.TrimSpace(typed) == "":
		granted, err = c.button(ctx, o)
		return granted, false, err
	case wanted.Display || wanted.Label:
		granted, err = c.code(ctx, o, typed, wanted)
		return granted, err == nil, err
	}
	return granted, false, fmt.Errorf("%w, but by %s", ErrNoMode, strings.Join(modes, ", "))
}

// code runs the client's half of code mode or label mode, whichever was typed.
func (c *Conn) code(ctx context.Context, o PairOptions, typed string, wanted Wanted) (api.Paired, error) {
	code, notCode := pairing.ParsePasscode(typed)
	label, notLabel := pairing.ParseLabel(typed)
	switch {
	case notCode == nil && wanted.Display:
		return c.typed(ctx, o, pairing.ModeCode, func(exporter, salt []byte) (*pairing.CodeAsker, error) {
			return pairing.NewCodeAsker(c.home.key.Fingerprint(), c.Peer(), exporter, code, salt)
		})
	case notLabel == nil && wanted.Label:
		return c.typed(ctx, o, pairing.ModeLabel, func(exporter, salt []byte) (*pairing.CodeAsker, error) {
			return pairing.NewLabelAsker(c.home.key.Fingerprint(), c.Peer(), exporter, label, salt)
		})
	case notCode == nil, notLabel == nil:
		return api.Paired{}, ErrNotOffered
	case wanted.Display && wanted.Label:
		return api.Paired{}, ErrNotEither
	case wanted.Label:
		return api.Paired{}, notLabel
	}
	return api.Paired{}, notCode
}

// typed runs it with the salt of the mode, which is asked for once the code is typed,
// because the person may have pressed again in the meantime.
func (c *Conn) typed(ctx context.Context, o PairOptions, mode string, begin func(exporter, salt []byte) (*pairing.CodeAsker, error)) (api.Paired, error) {
	hello, err := c.Hello(ctx)
	if err != nil {
		return api.Paired{}, err
	}
	offer := hello.Pairing.Code
	if mode == pairing.ModeLabel {
		offer = hello.Pairing.Label
	}
	salt, err := saltOf(hello.Pairing.Open, offer)
	if err != nil {
		return api.Paired{}, err
	}
	exporter, err := c.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return api.Paired{}, err
	}
	asker, err := begin(exporter, salt)
	if err != nil {
		return api.Paired{}, err
	}
	return c.proveCode(ctx, o, mode, asker)
}

func (c *Conn) proveCode(ctx context.Context, o PairOptions, mode string, asker *pairing.CodeAsker) (granted api.Paired, err error) {
	var challenge api.CodeChallenge
	begin := api.CodeBegin{Share: hex.EncodeToString(asker.Share()), Name: o.Name, User: o.User}
	if err := c.Call(ctx, http.MethodPost, "/v1/pair/"+mode, begin, &challenge); err != nil {
		return granted, err
	}
	share, bad := hex.DecodeString(challenge.Share)
	confirm, worse := hex.DecodeString(challenge.Confirm)
	if bad != nil || worse != nil {
		return granted, errors.New("the device's answer is not understood: its share or proof is not hexadecimal")
	}
	proof, err := asker.Answer(pairing.CodeReply{Exchange: challenge.Exchange, Share: share, Confirm: confirm})
	if err != nil {
		return granted, err
	}
	err = c.Call(ctx, http.MethodPost, "/v1/pair/"+mode+"/confirm",
		api.CodeConfirm{Exchange: proof.Exchange, Confirm: hex.EncodeToString(proof.Confirm)}, &granted)
	return granted, err
}

// saltOf checks how the device wants the code stretched. Its numbers are those of
// the protocol, or a false device could choose how much memory we take.
func saltOf(open bool, o *api.CodeOffer) ([]byte, error) {
	if !open || o == nil {
		return nil, ErrWindowClosed
	}
	if o.KiB != pairing.StretchKiB || o.Passes != pairing.StretchPasses || o.Lanes != pairing.StretchLanes {
		return nil, errors.New("the device wants the code stretched in a way that this client does not know: update it")
	}
	salt, err := hex.DecodeString(o.Salt)
	if err != nil || len(salt) != pairing.SaltBytes {
		return nil, errors.New("the device's answer is not understood: its salt is not 16 bytes")
	}
	return salt, nil
}
