package tunnel

import "sync"

const (
	// bufferBytes is what one read and one write move at most: four full TLS
	// records. Measured side by side, 64 KiB moved 6 % more than 32 KiB at
	// three quarters of the CPU; larger ones gained nothing.
	bufferBytes = 64 << 10
	// waitingBytes is what a direction holds while it waits on a source that
	// cannot tell when bytes are there (HTTP/2 and HTTP/3 streams, Windows
	// sockets). Keystrokes and players' requests fit; a larger request is moved
	// in two pieces.
	waitingBytes = 512
)

type buffer [bufferBytes]byte

// buffers lends copy buffers to whoever has bytes to move. What is not borrowed
// is the garbage collector's after two rounds.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

func borrow() *buffer    { return buffers.Get().(*buffer) }
func giveBack(b *buffer) { buffers.Put(b) }
