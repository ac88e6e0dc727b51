package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

var (
	// ErrNoCall means that the basestation finds nobody under a call number. It says so
	// also to who has tried too many.
	ErrNoCall = errors.New("the basestation finds no device with this call number")

	// ErrNotCallNumber means that what was typed cannot be a call number.
	ErrNotCallNumber = errors.New("not a call number: want the 6 digits that the device shows, such as 123 456")
)

// findCallTime bounds the question whose call number it is: a basestation answers a wrong one
// after a second, and a network that blocks UDP costs two more.
const findCallTime = 10 * time.Second

// ParseCallNumber reads what a person typed. Spaces and dashes do not matter.
func ParseCallNumber(typed string) (string, error) {
	var number []byte
	for _, c := range []byte(typed) {
		switch {
		case c >= '0' && c <= '9':
			number = append(number, c)
		case c != ' ' && c != '-' && c != '\t' && c != '\r' && c != '\n':
			return "", ErrNotCallNumber
		}
	}
	if !attach.IsCallNumber(string(number)) {
		return "", ErrNotCallNumber
	}
	return string(number), nil
}

// FindCall asks a basestation which device has a call number. It returns ErrNoCall, or an
// error that wraps ErrBasestation or says why the basestation is not there.
func (h *Home) FindCall(ctx context.Context, b Basestation, number string, log *slog.Logger) (identity.ID, error) {
	if err := b.check(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, findCallTime)
	defer cancel()
	bases, err := b.resolve(ctx)
	if err != nil {
		return "", err
	}
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		return "", err
	}
	socket := session.NewSocket(udp)
	defer socket.Close()
	answers := make(chan attach.Found, 1)
	link, err := reach.NewLink(reach.LinkConfig{
		Key: h.key, Roots: b.roots(), Addresses: bases, Find: &attach.Find{Number: number}, Packets: socket, Network: network, Log: log,
		Message: func(k attach.Kind, body []byte) {
			var f attach.Found
			if k == attach.KindFound && attach.Decode(body, &f) == nil {
				offer(answers, f)
			}
		},
	})
	if err != nil {
		return "", err
	}
	socket.OnPacket(func(from netip.AddrPort, p []byte) { link.Deliver(from, p) })
	life, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = link.Run(life) // what went wrong is in its status
	}()
	defer func() { stop(); <-ended }()
	select {
	case f := <-answers:
		if f.Device == "" {
			return "", ErrNoCall
		}
		return f.Device, nil
	case <-ctx.Done():
	}
	if status := link.Status(); status.State != attach.StateAttached && status.Err != nil {
		return "", fmt.Errorf("%s: %w", b, status.Err)
	}
	return "", fmt.Errorf("%s: %w", b, errSilentBase)
}
