package pairing

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/keyholed/keyhole/protocol/identity"
)

// ModeInvite is the mode in which a link from somebody who may invite lets one
// client in, once. It needs no window: the inviter has opened it for one.
//
//	client                                              device
//	           name, user, invite, proof  ------->      checks the proof, enters the
//	           <-------         user, role              client and ends the invite, at once
//
// It is one message, since the session brings what makes it fresh: see Token. No
// tries are counted. A token has 128 bits, so that a million guesses a second for
// a day hit one with a chance of 2^-91; a counter would only let strangers lock
// out who holds the link.
const ModeInvite = "invite"

// An InviteBook keeps the open invites. The daemon adapts the access list.
type InviteBook interface {
	// Invite returns the verifier of an invite that is open now.
	Invite(n InviteName) (Verifier, bool)
	// Redeem enters the newcomer and ends the invite: both, or neither with an
	// error, and for one caller only however many ask at once. ErrRefused is for
	// an invite that is not open any more; others go to the client as they are.
	Redeem(ctx context.Context, n InviteName, r Request) (Granted, error)
}

// InviteRequest is a client's message in invite mode.
type InviteRequest struct {
	Name   string // as in BeginRequest
	User   string
	Invite InviteName
	Proof  []byte // ProofBytes, from ProveInvite
}

func (r *InviteRequest) clean() error {
	if err := cleanNames(&r.Name, &r.User); err != nil {
		return err
	}
	if len(r.Proof) != ProofBytes {
		return &RequestError{"proof", fmt.Sprintf("want %d bytes", ProofBytes)}
	}
	return nil
}

// nobody is the verifier of an invite that nobody holds. What is unknown is
// checked against it, so that it takes the time that a wrong proof takes.
var nobody = sync.OnceValue(func() Verifier {
	seed := sha256.Sum256([]byte("keyhole/1 no invite"))
	return Verifier(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
})

// Redeem takes a client's message in invite mode. It returns ErrProof, which reads
// like ErrRefused, for an unknown, used or ended invite and for a wrong proof
// alike, a *RequestError for a malformed request, or what the book said.
func Redeem(ctx context.Context, device identity.Fingerprint, book InviteBook, c Caller, r InviteRequest) (Granted, error) {
	c, err := c.own()
	if err != nil {
		return Granted{}, err
	}
	if err := r.clean(); err != nil {
		return Granted{}, err
	}
	verifier, open := book.Invite(r.Invite)
	if !open {
		verifier = nobody()
	}
	b := binding{device: device, client: c.Fingerprint, exporter: c.Exporter}
	if good := verifier.checkProof(&b, r.Proof); !good || !open || c.Fingerprint.IsZero() {
		return Granted{}, ErrProof
	}
	return book.Redeem(ctx, r.Invite, Request{
		Mode: ModeInvite, Fingerprint: c.Fingerprint, Name: r.Name, User: r.User, Source: c.Source,
	})
}
