package client

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

var (
	// ErrCodeNeeded means that the device shows a code, and nobody was there to
	// read it.
	ErrCodeNeeded = errors.New("the device pairs by the code on its display")

	// ErrWrongCode means that the device has not proven the code that was typed.
	ErrWrongCode = pairing.ErrWrongCode

	// ErrNotCode means that what was typed cannot be a code.
	ErrNotCode = pairing.ErrNotCode
)

// code runs the client's half of code mode. The salt is asked for once the code
// is typed, because the person may have pressed again in the meantime.
func (c *Conn) code(ctx context.Context, o PairOptions) (api.Paired, error) {
	if o.Code == nil {
		return api.Paired{}, ErrCodeNeeded
	}
	typed, err := o.Code(ctx)
	if err != nil {
		return api.Paired{}, err
	}
	passcode, err := pairing.ParsePasscode(typed)
	if err != nil {
		return api.Paired{}, err
	}
	hello, err := c.Hello(ctx)
	if err != nil {
		return api.Paired{}, err
	}
	salt, err := saltOf(hello.Pairing)
	if err != nil {
		return api.Paired{}, err
	}
	exporter, err := c.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return api.Paired{}, err
	}
	asker, err := pairing.NewCodeAsker(c.home.key.Fingerprint(), c.Peer(), exporter, passcode, salt)
	if err != nil {
		return api.Paired{}, err
	}
	return c.proveCode(ctx, o, asker)
}

func (c *Conn) proveCode(ctx context.Context, o PairOptions, asker *pairing.CodeAsker) (granted api.Paired, err error) {
	var challenge api.CodeChallenge
	begin := api.CodeBegin{Share: hex.EncodeToString(asker.Share()), Name: o.Name, User: o.User}
	if err := c.Call(ctx, http.MethodPost, "/v1/pair/code", begin, &challenge); err != nil {
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
	err = c.Call(ctx, http.MethodPost, "/v1/pair/code/confirm",
		api.CodeConfirm{Exchange: proof.Exchange, Confirm: hex.EncodeToString(proof.Confirm)}, &granted)
	return granted, err
}

// saltOf checks how the device wants the code stretched. Its numbers are those of
// the protocol, or a false device could choose how much memory we take.
func saltOf(o api.Offer) ([]byte, error) {
	if !o.Open || o.Code == nil {
		return nil, ErrWindowClosed
	}
	if o.Code.KiB != pairing.StretchKiB || o.Code.Passes != pairing.StretchPasses || o.Code.Lanes != pairing.StretchLanes {
		return nil, errors.New("the device wants the code stretched in a way that this client does not know: update it")
	}
	salt, err := hex.DecodeString(o.Code.Salt)
	if err != nil || len(salt) != pairing.SaltBytes {
		return nil, errors.New("the device's answer is not understood: its salt is not 16 bytes")
	}
	return salt, nil
}
