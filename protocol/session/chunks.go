package session

import (
	"encoding/binary"
	"errors"
	"io"
)

// An HTTP/2 tunnel of a client that asks for it with
//
//	Keyhole-Stream: chunks
//
// and of a device that answers with the same header carries, from device to
// client, chunks:
//
//	0        4
//	+--------+------------------+
//	| length | length bytes     |   length: uint32, big endian
//	+--------+------------------+
//
// A chunk of length zero is the end of that direction, and nothing follows it.
// A stream that ends without one was cut. From client to device the bytes are
// plain, and their end is the end of the request (END_STREAM).
const (
	chunksHeader = "Keyhole-Stream"
	chunksValue  = "chunks"

	chunkHeaderBytes = 4
	// maxChunkBytes is far above what is ever written at once, and is there to
	// keep a length within an int everywhere. Chunks are never buffered whole.
	maxChunkBytes = 1<<31 - 1
)

// errChunks means that the peer broke the framing.
var errChunks = errors.New("chunk longer than allowed")

// putChunkHeader writes the header of a chunk of n bytes.
func putChunkHeader(header *[chunkHeaderBytes]byte, n int) {
	binary.BigEndian.PutUint32(header[:], uint32(n))
}

// chunkReader takes the bytes out of their chunks.
type chunkReader struct {
	from io.Reader
	rest int // of the present chunk
	end  bool
}

// Read returns io.EOF at the end mark and io.ErrUnexpectedEOF where from ends
// without one.
func (r *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.rest == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n, err := r.from.Read(p[:min(len(p), r.rest)])
	r.rest -= n
	if err == io.EOF {
		if err = nil; n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (r *chunkReader) next() error {
	if r.end {
		return io.EOF
	}
	var header [chunkHeaderBytes]byte
	if _, err := io.ReadFull(r.from, header[:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	n := binary.BigEndian.Uint32(header[:])
	if n > maxChunkBytes {
		return errChunks
	}
	if n == 0 {
		r.end = true
		return io.EOF
	}
	r.rest = int(n)
	return nil
}
