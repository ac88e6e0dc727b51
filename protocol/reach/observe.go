package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// observeTime bounds one question: two round trips, a lost packet and its
// repetition after a second.
const observeTime = 5 * time.Second

// ErrObserved says that a basestation answered with an address that nobody has.
var ErrObserved = errors.New("no usable address in the answer")

// Observe asks the basestation at base from which address a TCP connection from
// the local port arrives there. The port may be listened on, if by
// [ListenReusable]; 0 is any, and then the answer is of no use to others. The
// connection must be kept open, until the meeting is over, so that the router
// keeps its mapping; the basestation closes it after 30 s. Errors are those of
// dialling, ErrNoReuse and ErrObserved.
//
// Only one connection at a time goes from one port to one base; [Observer] shares
// it between introductions.
func Observe(ctx context.Context, port int, base netip.AddrPort) (seen netip.AddrPort, conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, observeTime)
	defer cancel()
	c, err := dialFrom(ctx, port, base)
	if err != nil {
		return seen, nil, fmt.Errorf("ask the basestation where it sees port %d: %w", port, err)
	}
	_ = c.SetLinger(0) // whoever closes it: the next question must find the port free
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	seen, err = askObserved(c)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return netip.AddrPort{}, nil, fmt.Errorf("ask the basestation where it sees port %d: %w", port, err)
	}
	return seen, c, nil
}

func askObserved(c io.ReadWriter) (netip.AddrPort, error) {
	if _, err := c.Write(attach.AppendPreface(nil, attach.StreamObserve)); err != nil {
		return netip.AddrPort{}, err
	}
	seen, err := attach.ReadSeen(c)
	if err == nil && !possible(seen) {
		err = ErrObserved
	}
	return seen, err
}
