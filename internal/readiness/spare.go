package readiness

import (
	"sync"
	"sync/atomic"
)

// What a Gate lends itself while bytes flow: one buffer to read ahead into and
// one to gather records in.
const (
	// spareBytes holds the records of 64 KiB, also when crypto/tls makes small
	// ones, as it does at the beginning of a connection.
	spareBytes = 72 << 10
	// maxSpares bounds what all Gates of a process have borrowed: 4.5 MiB. A
	// peer that stops in the middle keeps what its connection has. The others
	// then read and write a record at a time, which costs only speed.
	maxSpares = 64
)

type spare [spareBytes]byte

var (
	spares = sync.Pool{New: func() any { return new(spare) }}
	lent   atomic.Int32
)

// borrowSpare returns nil where maxSpares are lent.
func borrowSpare() *spare {
	if lent.Add(1) > maxSpares {
		lent.Add(-1)
		return nil
	}
	return spares.Get().(*spare)
}

func giveSpareBack(b *spare) {
	spares.Put(b)
	lent.Add(-1)
}
