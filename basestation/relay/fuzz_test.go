package relay

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// Whatever comes as a preface: it is read to the byte, and only the ticket that
// was made joins anything. The bytes come over a real socket, whole.
func FuzzPreface(f *testing.F) {
	ticket := attach.Ticket{1, 2, 3}
	whole := attach.AppendRelayPreface(nil, ticket)[1:]
	f.Add(whole, []byte("what follows"))
	f.Add(whole[:20], []byte{})
	f.Add([]byte{}, []byte{})
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"), []byte("a hello"))
	f.Add(append([]byte{0}, whole[1:]...), []byte("x"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	f.Fuzz(func(t *testing.T, head, rest []byte) {
		sender, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return // no ports left
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sent := append(bytes.Clone(head), rest...)
		if len(sent) > 1<<16 {
			sent = sent[:1<<16]
		}
		sender.Write(sent)
		sender.Close()
		got, err := readPreface(conn, time.Minute)
		if ok := len(sent) >= len(whole) && sent[0] == whole[0] && !bytes.Equal(sent[1:33], make([]byte, 32)); ok != (err == nil) {
			t.Fatalf("%x: %v", sent, err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(got[:], sent[1:33]) {
			t.Errorf("ticket %x of %x", got[:], sent)
		}
		if left, err := io.ReadAll(conn); err != nil || !bytes.Equal(left, sent[33:]) {
			t.Errorf("left %x, %v; want %x", left, err, sent[33:])
		}
	})
}
