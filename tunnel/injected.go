package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/keyholed/keyhole/tunnel/inject"
)

// WithCredentials returns the service with the password that the device knows
// for it: whoever comes through a tunnel is signed in by the device and never
// sees the password. refused is called, and must not block, each time the service
// has refused it. The error is a *FieldError of "credentials".
func (s Service) WithCredentials(c inject.Credentials, refused func(*inject.Refusal)) (Service, error) {
	switch {
	case s.Type.inject == nil:
		return Service{}, &FieldError{"credentials", fmt.Errorf("a service of type %s cannot be signed in to by the device: want type http or rtsp", s.Type.Name)}
	case s.Access != AccessRole:
		// Anybody who can name the device would be signed in.
		return Service{}, &FieldError{"credentials", errors.New("the access list has to decide who is signed in by the device: want access = \"role\"")}
	}
	s.vault = inject.NewVault(c, refused)
	return s, nil
}

// Refusal returns why the service is not signed in to at present, or nil.
func (s Service) Refusal() *inject.Refusal {
	if s.vault == nil {
		return nil
	}
	return s.vault.Refusal()
}

// inner is the service's side of the tunnel.
func (t *Tunnel) inner() Conn {
	upstream := t.upstream.(Conn)
	if t.service.vault == nil {
		return upstream
	}
	dial := func(ctx context.Context) (net.Conn, error) { return t.bridge.Dial(ctx, t.service) }
	return t.service.Type.inject(t.service.vault, t.upstream.(inject.Upstream), dial)
}

// verdict puts into the report why the device ended a conversation itself.
func verdict(r *Report, side Conn) {
	if s, ok := side.(inject.Side); ok && s.Verdict() != nil {
		r.Why, r.Err = WhyError, s.Verdict()
	}
}
