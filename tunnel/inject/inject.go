// Package inject stands between a client and a service whose password the
// device knows, so that neither the password nor what is made of it ever leaves
// the device.
//
// The tunnel wraps its connection to such a service: Vault.HTTP and Vault.RTSP
// return a Conn that is the same service without a password. What the client
// says about passwords (Authorization, Proxy-Authorization) is dropped, the
// device's own is put in, and the service's challenge is answered here and never
// shown. So that both sides see the same requests, messages are read strictly
// and written anew: what could be read in two ways is refused. Bodies and RTP
// frames pass through the buffer they came in.
//
//	credentials   the file with user and password
//	challenge     what a WWW-Authenticate field asks for
//	digest        the answer to it (RFC 7616, RFC 7617)
//	vault         one service's password: what is known of its challenge, and
//	              when it may be tried again after the service refused it
//	head, framing where messages begin and end (RFC 9112, RFC 2326)
//	conn          the bytes of both directions
//	http, rtsp    what is said in them
//
// It does not know who the client is and what he may do, and it opens no
// connection but to the service, by the function that it was given.
package inject

import (
	"context"
	"io"
	"net"
	"time"
)

const (
	// MaxHead bounds the head of a message: request or status line and fields.
	// Browsers with many cookies send 8 KiB; servers refuse beyond 8 to 64.
	MaxHead = 32 << 10
	// MaxFields bounds the fields of a head; Apache and nginx end at 100.
	MaxFields = 100
	// MaxKept is as much of a request's body as is kept until its answer is
	// there, so that it can be sent again with the authorization that the service
	// asks for. What is longer is authorized beforehand (see scout). It is one
	// copy buffer of the tunnel: forms, ONVIF and API calls fit.
	MaxKept = 64 << 10
	// maxSwallowed bounds the body of a challenge that is read to keep the
	// connection; beyond it another connection is cheaper.
	maxSwallowed = 64 << 10
	// maxIgnored bounds what a client may still send after its connection has
	// got its last answer: enough to reach the end of a form, so that it reads
	// the answer, and no way to keep the device busy.
	maxIgnored = 16 << 20
	// keptIdle is what a connection keeps of its buffers between two requests.
	keptIdle = 2 << 10
	// answerTime is how long the service may take to accept a request that is
	// sent again, or to answer a scout. Requests are small and services near.
	answerTime = 10 * time.Second
)

// Upstream is the connection to the service: *net.TCPConn and *net.UnixConn are
// ones.
type Upstream interface {
	net.Conn
	CloseWrite() error
}

// Dial opens another connection to the same service.
type Dial func(context.Context) (net.Conn, error)

// A MessageError says why a message was refused. The text is for the log and
// has nothing of the message in it.
type MessageError struct {
	Client bool // it was the client's; else the service's
	Reason string
}

func (e *MessageError) Error() string {
	if e.Client {
		return "request refused: " + e.Reason
	}
	return "answer refused: " + e.Reason
}

// ended is what a Conn that has given its last answer is told about.
var errEnded = io.ErrClosedPipe
